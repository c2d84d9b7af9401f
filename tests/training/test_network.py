"""Training over network namespaces with addresses of their own, as over the hosts of a cluster."""

import contextlib
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.side_by_side import hosts
from benchmarks.side_by_side.hosts import Hosts
from fv import cli, files, workdir
from fv.training.run import train
from tests import samples
from tests.training.test_multi_worker import (
    FLAGS,
    FLOAT32_NOISE,
    last_step,
    resolve,
    wait_for_a_checkpoint,
)
from tests.training.test_run import logged_losses

pytestmark = pytest.mark.slow
PORT = 12345  # the same on every host
PAIRS = 60  # divide over two workers and over three
ENDED_S = 120.0  # TensorFlow takes up to 30 s to notice a silent chief
FINISHED_S = 1800.0  # a run that takes 20 s takes 500 s beside other work
DROPPED_S = 20.0  # the dispatcher drops a silent worker after 5 s, and training learns it 1 s later
GOES_ON_S = 600.0  # where no worker delivers, training stops for longer
CLUSTER = "--strategy=multi_worker"


@pytest.fixture(scope="module")
def pairs(make_once) -> pathlib.Path:
    return make_once("shards-60", lambda folder: samples.write_shards(folder, {"train": PAIRS}))


@pytest.fixture
def connect():
    """Makes so many hosts, or skips the test where that is not permitted."""
    with contextlib.ExitStack() as stack:

        def make(count: int) -> Hosts:
            try:
                return stack.enter_context(hosts.connect(count))
            except OSError as error:
                pytest.skip(f"no network namespaces: {error}")

        yield make


@pytest.fixture
def start():
    """Starts a command on a host; none outlives the test."""
    started = []

    def run(made: Hosts, place: int, *command: str) -> subprocess.Popen:
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        whole = made.command(place, sys.executable, *command)
        started.append(subprocess.Popen(whole, **pipes))
        return started[-1]

    yield run
    for process in started:
        with process:  # closes its pipe, and waits for it
            process.kill()


def start_workers(start, made: Hosts, *flags: str) -> list[subprocess.Popen]:
    """Starts one worker on each host."""
    listed = ",".join(f"{address}:{PORT}" for address in made.addresses)
    command = ["-m", "fv.train", *FLAGS, *flags, CLUSTER, f"--workers={listed}"]
    return [
        start(made, place, *command, f"--worker_index={place}")
        for place in range(len(made.addresses))
    ]


@pytest.mark.parametrize("count", [2, 3])
def test_workers_on_hosts_of_their_own_give_the_losses_of_one(
    pairs, tmp_path, connect, start, count
):
    """Each step is one epoch, so its batch holds the same pairs, whoever reads which."""
    run = [f"--tfrecords={pairs}", "--steps=5", f"--global_batch_size={PAIRS}"]
    run += ["--checkpoint_every=0", "--optimizer=sgd", "--learning_rate=0.03"]
    workers = start_workers(start, connect(count), *run, f"--workdir={tmp_path / 'many'}")
    said = [worker.communicate(timeout=FINISHED_S)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * count, said

    train(resolve(*run, f"--workdir={tmp_path / 'one'}"))
    one, many = (logged_losses(str(tmp_path / name)) for name in ("one", "many"))
    assert sorted(one) == sorted(many) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(
        [many[step] for step in sorted(many)],
        [one[step] for step in sorted(one)],
        rtol=FLOAT32_NOISE,
    )


@pytest.mark.parametrize("cut", [Hosts.unplug, Hosts.silence])
def test_workers_that_lose_the_link_name_each_other_and_continue_later(
    pairs, tmp_path, connect, start, cut
):
    folder, made = tmp_path / "run", connect(2)
    run = [f"--tfrecords={pairs}", f"--workdir={folder}", "--global_batch_size=12"]
    run += ["--checkpoint_every=5", "--validate_every=0"]
    workers = start_workers(start, made, *run, "--steps=100000")
    wait_for_a_checkpoint(folder, workers)
    cut(made, 1)
    said = [worker.communicate(timeout=ENDED_S)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [cli.EXIT_SAVED] * 2, said
    for other, lines in ((1, said[0]), (0, said[1])):
        assert f"worker {other} ({made.addresses[other]}:{PORT}) ended or does not answer" in lines
        assert "Traceback" not in lines

    made.reconnect(1)
    saved = last_step(folder)
    again = start_workers(start, made, *run, f"--steps={saved + 5}")
    said = [worker.communicate(timeout=FINISHED_S)[0] for worker in again]
    assert [worker.returncode for worker in again] == [0, 0], said
    starts = files.load_json(str(folder / workdir.RUN))["starts"]
    assert [each["first_step"] for each in starts] == [0, saved]
    assert last_step(folder) == saved + 5


def test_training_goes_on_without_a_service_worker_that_loses_the_link(tmp_path, connect, start):
    shards, folder, made = tmp_path / "shards", tmp_path / "run", connect(3)
    samples.write_shards(shards, {"train": PAIRS}, shards=12)
    dispatcher, first, second = made.addresses
    tool = "tools/data_service.py"
    served = start(made, 0, tool, "--role=dispatcher", f"--port={PORT}")
    assert served.stdout.readline().endswith(f":{PORT}\n")
    for place, address in ((1, first), (2, second)):
        role = ("--role=worker", f"--dispatcher={dispatcher}:{PORT}", f"--host={address}")
        worker = start(made, place, tool, *role)
        assert worker.stdout.readline().startswith("worker of")

    run = [f"--tfrecords={shards}", f"--workdir={folder}", "--global_batch_size=12"]
    run += ["--checkpoint_every=5", "--validate_every=0", "--steps=100000"]
    run.append(f"--data_service=grpc://{dispatcher}:{PORT}")
    training = start(made, 0, "-m", "fv.train", *FLAGS, *run)
    wait_for_a_checkpoint(folder, [training])
    made.silence(2)
    time.sleep(DROPPED_S)
    dropped = time.monotonic()
    for _ in range(20):  # more than was decoded before
        wait_for_a_checkpoint(folder, [training])
    assert time.monotonic() - dropped < GOES_ON_S
    training.terminate()
    assert "stopped as asked" in training.communicate(timeout=ENDED_S)[0]
    assert training.returncode == cli.EXIT_SAVED
