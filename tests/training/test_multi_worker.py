import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from absl import flags

from benchmarks.side_by_side.ports import free_ports
from fv import cli, files, options, workdir
from fv.model import checkpoint_files
from fv.training.options import TrainOptions
from fv.training.run import train
from tests.training.test_run import logged_losses

FLAGS = [
    "--backbone=tiny",
    "--image_size=32",
    "--sync_batch_norm",
    "--noaugment",
    "--log_every=1",
    "--warmup_steps=0",
]
TRAINING_PAIRS = 64  # of the fixture `shards`
FLOAT32_NOISE = 1e-5  # relative; measured: 9.1e-7
# Until a worker ends after another: TensorFlow takes up to 10, more on busy cores.
NOTICED_S = 30.0


def resolve(*arguments: str) -> TrainOptions:
    """The options of a command line."""
    values = flags.FlagValues()
    options.define_flags(TrainOptions, values)
    values(["fv-train", *FLAGS, *arguments])
    return options.from_flags(TrainOptions, values)


@pytest.fixture
def start_workers():
    """Starts a run on so many workers of this machine, none of which outlives the test."""
    started = []

    def start(count: int, *arguments: str) -> list[subprocess.Popen]:
        listed = ",".join(f"localhost:{port}" for port in free_ports(count))
        cluster = ["--strategy=multi_worker", f"--workers={listed}"]
        command = [sys.executable, "-m", "fv.train", *FLAGS, *arguments, *cluster]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for index in range(count):
            started.append(subprocess.Popen([*command, f"--worker_index={index}"], **pipes))
        return started[-count:]

    yield start
    for worker in started:
        with worker:  # closes its pipe, and waits for it
            worker.kill()


def flags_of(shards: pathlib.Path, folder: pathlib.Path, batch_size: int) -> list[str]:
    """Of a run that saves often."""
    return [
        f"--tfrecords={shards}",
        f"--workdir={folder}",
        f"--global_batch_size={batch_size}",
        "--checkpoint_every=5",
    ]


def last_step(folder: pathlib.Path) -> int:
    """Steps before the last checkpoint of a run, 0 where there is none."""
    found = checkpoint_files.find_checkpoints(str(folder / workdir.CHECKPOINTS))
    return checkpoint_files.checkpoint_step(found[0]) if found else 0


def wait_for_a_checkpoint(folder: pathlib.Path, workers: list[subprocess.Popen]) -> None:
    """Waits for one more than there are."""
    before = last_step(folder)
    while last_step(folder) == before:
        assert all(worker.poll() is None for worker in workers), [
            worker.communicate()[0] for worker in workers
        ]
        time.sleep(0.1)


def kill(place: int, workers: list[subprocess.Popen]) -> None:
    """Kills a worker, and checks that the others end in time and say why."""
    workers[place].kill()
    killed = time.monotonic()
    said = [worker.communicate(timeout=120)[0] for worker in workers]
    assert time.monotonic() - killed < NOTICED_S
    for index, (worker, lines) in enumerate(zip(workers, said, strict=True)):
        assert worker.returncode == (-signal.SIGKILL if index == place else cli.EXIT_SAVED), said
        if index != place:
            assert (
                "does not answer, and no worker can go on alone: start all again" in lines
                and "Traceback" not in lines
            )


def test_two_workers_give_the_losses_of_one_and_only_the_chief_writes(
    shards, tmp_path, start_workers
):
    """Each step is one epoch, so its batch holds the same pairs, whoever reads which."""
    run = [
        f"--tfrecords={shards}",
        "--steps=5",
        f"--global_batch_size={TRAINING_PAIRS}",
        "--checkpoint_every=0",
    ]
    run += [
        "--optimizer=sgd",
        "--learning_rate=0.03",
    ]  # Adam's first steps make much of noise about zero
    workers = start_workers(2, *run, f"--workdir={tmp_path / 'two'}")
    said = [worker.communicate(timeout=180)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert "step 5: val accuracy" in said[0] and said[1] == ""
    assert len(list((tmp_path / "two" / workdir.TENSORBOARD).iterdir())) == 1

    train(resolve(*run, f"--workdir={tmp_path / 'one'}"))
    one, two = (logged_losses(str(tmp_path / name)) for name in ("one", "two"))
    assert sorted(one) == sorted(two) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(
        [two[step] for step in sorted(two)], [one[step] for step in sorted(one)], rtol=FLOAT32_NOISE
    )
    assert len(set(one.values())) == 5


@pytest.mark.slow
def test_a_killed_worker_ends_the_others_and_one_alone_continues(shards, tmp_path, start_workers):
    folder = tmp_path / "run"
    run = flags_of(shards, folder, 24)
    workers = start_workers(3, *run, "--steps=100000", "--validate_every=0")
    wait_for_a_checkpoint(folder, workers)
    kill(1, workers)

    saved = last_step(folder)
    alone = [
        "--strategy=multi_worker",
        "--workers=localhost:12345",
        "--worker_index=0",
        f"--steps={saved + 3}",
    ]
    train(resolve(*run, *alone))
    assert {saved + 1, saved + 2, saved + 3} <= set(logged_losses(str(folder)))
    assert "--global_batch_size=24\n" in (folder / workdir.FLAGS).read_text()


@pytest.mark.slow
def test_a_signal_to_one_worker_saves_and_ends_all_workers(shards, tmp_path, start_workers):
    folder = tmp_path / "run"
    run = [*flags_of(shards, folder, 8), "--steps=100000", "--validate_every=0"]
    workers = start_workers(2, *run)
    wait_for_a_checkpoint(folder, workers)
    workers[1].send_signal(signal.SIGTERM)
    said = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [cli.EXIT_SAVED] * 2, said
    saved = last_step(folder)
    for lines in said:
        assert f"stopped as asked, saved at step {saved}" in lines and "Traceback" not in lines

    again = start_workers(2, *run)
    wait_for_a_checkpoint(folder, again)
    kill(0, again)
    starts = files.load_json(str(folder / workdir.RUN))["starts"]
    assert [start["first_step"] for start in starts] == [0, saved]
