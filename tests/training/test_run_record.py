"""Where a run goes on in its stream of pairs when its next start has other flags."""

import collections
import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from fv.errors import Stopped, UserError
from fv.pipeline.damage import DamagedRecords
from fv.pipeline.options import InputOptions
from fv.training import feeding, run_record
from fv.training.feeding import StallMeter
from fv.training.options import OptimizerOptions, TrainOptions
from fv.training.run import train
from fv.training.run_record import Position
from tests.training.test_feeding import Worker
from tests.training.test_monitoring import events, make_reporter

PAIRS = 64  # of `shards`
ONE_DEVICE = tf.distribute.OneDeviceStrategy("CPU:0")


@pytest.fixture
def position_options(tiny_run, tmp_path) -> TrainOptions:
    return dataclasses.replace(tiny_run, workdir=str(tmp_path), global_batch_size=8)


def resume(options: TrainOptions, step: int, workers: int = 1) -> Position:
    """Starts a run whose checkpoint is of that step, and notes the start as a run does."""
    place, _ = run_record.find_position(options, step, workers, PAIRS)
    run_record.begin_run(options, ONE_DEVICE, step, place)
    return place


def line(options: TrainOptions, step: int, workers: int = 1) -> str | None:
    return run_record.find_position(options, step, workers, PAIRS)[1]


def draw(options: TrainOptions, place: Position, pairs: int) -> list[bytes]:
    """The images of so many pairs from that place on."""
    source, _ = feeding.pair_sources(options)
    stream = feeding.training_batches(
        Worker(0, 1), source, options, place, DamagedRecords(options.tfrecords)
    )
    batches = [next(stream)["images"].numpy() for _ in range(pairs // options.global_batch_size)]
    return [pair.tobytes() for pair in np.concatenate(batches)]


def test_at_other_batch_sizes_an_epoch_shows_every_pair_once(position_options):
    larger = dataclasses.replace(position_options, global_batch_size=16)
    smaller = dataclasses.replace(position_options, global_batch_size=4)
    shown = draw(position_options, resume(position_options, 0), 40)
    shown += draw(larger, resume(larger, 5), 16)
    shown += draw(smaller, resume(smaller, 6), PAIRS)
    assert collections.Counter(shown[:PAIRS]).most_common(1)[0][1] == 1
    assert shown == draw(position_options, Position(), PAIRS + 56)


@pytest.mark.parametrize(
    "wanted", [InputOptions(genuine_only=True), InputOptions(images_per_identity=4)]
)
def test_genuine_pairs_go_on_behind_the_last_one_at_another_batch_size(position_options, wanted):
    position_options = dataclasses.replace(
        position_options,
        input=wanted,
        model=dataclasses.replace(position_options.model, head="softmax"),
    )
    larger = dataclasses.replace(position_options, global_batch_size=16)
    shown = draw(position_options, resume(position_options, 0), 24)
    shown += draw(larger, resume(larger, 3), 32)
    assert shown == draw(position_options, Position(), 56)


def test_accumulating_differently_goes_on_with_the_very_next_pair(position_options):
    parts = dataclasses.replace(position_options, optimization=OptimizerOptions(accumulate_steps=2))
    resume(position_options, 0)
    assert resume(parts, 5) == Position(pairs=40, order_pairs=40) and line(parts, 5) is None


def test_a_checkpoint_is_placed_by_the_start_that_made_it(position_options):
    larger = dataclasses.replace(position_options, global_batch_size=16)
    resume(position_options, 0)
    resume(larger, 10)
    assert run_record.find_position(position_options, 14, 1, PAIRS)[0].pairs == 10 * 8 + 4 * 16
    assert run_record.find_position(position_options, 10, 1, PAIRS)[0].pairs == 10 * 8
    assert run_record.find_position(position_options, 5, 1, PAIRS)[0].pairs == 5 * 8


@pytest.mark.parametrize(
    "start",
    [
        None,
        {"first_step": 0, "flags": ["--workdir=run", "--tfrecords=shards"]},
        {"first_step": 0, "flags": ["--hard_share=0.5"], "position": {}},
    ],
)
def test_a_start_that_run_json_does_not_describe_is_refused(position_options, start):
    starts = [start] if start else []
    pathlib.Path(position_options.workdir, "run.json").write_text(json.dumps({"starts": starts}))
    with pytest.raises(UserError, match=r"run\.json does not say .* steps to 10 .*new --workdir"):
        run_record.find_position(position_options, 10, 1, PAIRS)


CHANGES = {
    "--seed=1, before 0": dict(seed=1),
    "--genuine_only=true, before false": dict(input=InputOptions(genuine_only=True)),
    "--images_per_identity=4, before 0": dict(input=InputOptions(images_per_identity=4)),
    "--data_service": dict(input=InputOptions(data_service="grpc://host:1")),
}


@pytest.mark.parametrize("said", CHANGES)
def test_another_order_begins_a_new_epoch_and_says_why(position_options, said):
    resume(position_options, 0)
    place, message = run_record.find_position(
        dataclasses.replace(position_options, **CHANGES[said]), 10, 1, PAIRS
    )
    assert place == Position(pairs=80, order_pairs=0, order_epoch=2)
    assert message.startswith("a new epoch begins at step 10") and said in message
    assert line(position_options, 10) is None  # the flags of before go on inside the epoch


def test_other_shards_and_other_input_workers_begin_a_new_epoch(position_options, tmp_path):
    resume(position_options, 0)
    assert "2 input workers, before 1" in line(position_options, 10, workers=2)
    (tmp_path / "manifest.json").write_text("{}")
    assert "holds other shards" in line(
        dataclasses.replace(position_options, tfrecords=str(tmp_path)), 10
    )


def test_a_new_epoch_is_whole_and_in_an_order_of_its_own(position_options):
    resume(position_options, 0)
    resume(dataclasses.replace(position_options, seed=7), 3)
    place = resume(position_options, 5)
    shown = draw(position_options, place, PAIRS)
    assert place.order_epoch == 2 and len(set(shown)) == PAIRS
    assert shown != draw(position_options, Position(), PAIRS)


def test_the_printed_epoch_goes_on_where_it_was(trained, tmp_path):
    folder = shutil.copytree(trained.workdir, tmp_path / "run")
    train(dataclasses.replace(trained, workdir=str(folder), steps=32, global_batch_size=16))
    starts = json.loads((folder / "run.json").read_text())["starts"]
    assert starts[1]["position"]["pairs"] == 240
    epochs = {step: float(value) for step, value in events(folder)["epoch"].items()}
    assert epochs[30] == 240 / PAIRS and epochs[32] == (240 + 2 * 16) / PAIRS


@pytest.fixture
def run_record_options(tiny_run, tmp_path):
    return dataclasses.replace(tiny_run, workdir=str(tmp_path))


def starts(folder) -> list[dict]:
    return json.loads(pathlib.Path(folder, "run.json").read_text())["starts"]


def test_what_a_user_added_to_the_record_stays(run_record_options):
    path = pathlib.Path(run_record_options.workdir, "run.json")
    path.write_text('{"starts": [], "note": "mine"}')
    start = run_record.begin_run(run_record_options, ONE_DEVICE, 0)
    run_record.end_run(run_record_options.workdir, start, {"reason": "finished"})
    assert (
        json.loads(path.read_text())["note"] == "mine"
        and len(starts(run_record_options.workdir)) == 1
    )


def test_every_start_is_kept_with_what_it_computed_with(run_record_options, shards):
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    run_record.begin_run(run_record_options, strategy, 0)
    second = run_record.begin_run(run_record_options, strategy, 20)
    run_record.end_run(run_record_options.workdir, second, {"reason": "finished"})
    first, other = starts(run_record_options.workdir)
    assert (first["first_step"], other["first_step"]) == (0, 20)
    assert first["ended"] is None and other["ended"] == {"reason": "finished"}
    assert (
        first["manifest_sha256"]
        == hashlib.sha256((shards / "manifest.json").read_bytes()).hexdigest()
    )
    assert first["versions"]["tensorflow"] == tf.__version__ and "fv" in first["versions"]
    assert any("CPU" in device for device in first["devices"]) and first["replicas"] == 1
    assert f"--workdir={run_record_options.workdir}" in first["flags"]


def test_the_revision_is_of_the_repository_that_tracks_the_package(tmp_path):
    def git(*arguments: str) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(
            ["git", *author, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    file = tmp_path / "__init__.py"
    file.write_text("")
    assert run_record.git_revision(str(tmp_path)) is None
    git("init", "-q")
    assert (
        run_record.git_revision(str(tmp_path)) is None
    )  # installed inside someone else's repository
    git("add", ".")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD").strip()
    assert run_record.git_revision(str(tmp_path)) == head
    file.write_text("changed")
    assert run_record.git_revision(str(tmp_path)) == f"{head}-dirty"


@pytest.mark.parametrize(
    "error, reason", [(None, "finished"), (Stopped("asked"), "stopped"), (ValueError(), "failed")]
)
def test_every_run_ends_with_the_input_verdict_and_the_summary(
    run_record_options, capsys, error, reason
):
    folder = run_record_options.workdir
    reporter = make_reporter(folder, meter=StallMeter(1.0, 4.0))
    with pytest.raises(type(error)) if error else contextlib.nullcontext(), reporter:
        reporter.log(10, np.ones(10))
        if error:
            raise error
    *before, verdict, line = capsys.readouterr().out.splitlines()
    assert before == ([] if error else [f"{folder}: trained to step 30, 30 steps in this start"])
    assert verdict.startswith("25% of the training time was spent waiting for input: input-bound; ")
    printed = json.loads(line)
    assert printed["reason"] == reason and starts(folder)[0]["ended"] == printed
