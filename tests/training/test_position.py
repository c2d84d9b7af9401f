"""Where a run goes on in its stream of pairs when its next start has other flags."""

import collections
import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from fv import options as fv_options
from fv.pipeline.damage import BadRecords
from fv.pipeline.options import InputOptions
from fv.training import feeding, position
from fv.training.options import OptimizerOptions, TrainOptions
from fv.training.position import Position
from fv.training.run import train
from fv.training.watching import run_record
from fv.training.watching.report_options import ReportOptions
from tests.training.test_feeding import Worker
from tests.training.watching.test_reporter import events

PAIRS = 64  # of `shards`
ONE_DEVICE = tf.distribute.OneDeviceStrategy("CPU:0")


@pytest.fixture
def options(tiny_run, tmp_path) -> TrainOptions:
    return dataclasses.replace(tiny_run, workdir=str(tmp_path), global_batch_size=8)


def resume(options: TrainOptions, step: int, workers: int = 1) -> Position:
    """Starts a run whose checkpoint is of that step, and notes the start as a run does."""
    place, _ = position.find(options, step, workers, PAIRS)
    run_record.begin(options, ONE_DEVICE, step, place)
    return place


def line(options: TrainOptions, step: int, workers: int = 1) -> str | None:
    return position.find(options, step, workers, PAIRS)[1]


def draw(options: TrainOptions, place: Position, pairs: int) -> list[bytes]:
    """The images of so many pairs from that place on."""
    source, _ = feeding.sources(options)
    stream = feeding.training_batches(
        Worker(0, 1), source, options, place, BadRecords(options.tfrecords)
    )
    batches = [next(stream)["images"].numpy() for _ in range(pairs // options.global_batch_size)]
    return [pair.tobytes() for pair in np.concatenate(batches)]


def test_at_other_batch_sizes_an_epoch_shows_every_pair_once(options):
    larger = dataclasses.replace(options, global_batch_size=16)
    smaller = dataclasses.replace(options, global_batch_size=4)
    shown = draw(options, resume(options, 0), 40)
    shown += draw(larger, resume(larger, 5), 16)
    shown += draw(smaller, resume(smaller, 6), PAIRS)
    assert collections.Counter(shown[:PAIRS]).most_common(1)[0][1] == 1
    assert shown == draw(options, Position(), PAIRS + 56)


@pytest.mark.parametrize(
    "wanted", [InputOptions(genuine_only=True), InputOptions(images_per_identity=4)]
)
def test_genuine_pairs_go_on_behind_the_last_one_at_another_batch_size(options, wanted):
    options = dataclasses.replace(
        options, input=wanted, model=dataclasses.replace(options.model, head="cosface")
    )
    larger = dataclasses.replace(options, global_batch_size=16)
    shown = draw(options, resume(options, 0), 24)
    shown += draw(larger, resume(larger, 3), 32)
    assert shown == draw(options, Position(), 56)


def test_accumulating_differently_goes_on_with_the_very_next_pair(options):
    parts = dataclasses.replace(options, optimization=OptimizerOptions(accumulate_steps=2))
    resume(options, 0)
    assert resume(parts, 5) == Position(pairs=40, order_pairs=40) and line(parts, 5) is None


def test_a_checkpoint_is_placed_by_the_start_that_made_it(options):
    larger = dataclasses.replace(options, global_batch_size=16)
    resume(options, 0)
    resume(larger, 10)
    assert position.find(options, 14, 1, PAIRS)[0].pairs == 10 * 8 + 4 * 16
    assert position.find(options, 10, 1, PAIRS)[0].pairs == 10 * 8
    assert position.find(options, 5, 1, PAIRS)[0].pairs == 5 * 8


@pytest.mark.parametrize("keep", ["train.flags", "run.json"])
def test_a_workdir_of_an_older_fv_goes_on_by_its_flags_batch_size(options, keep):
    flags = fv_options.to_flagfile(options)
    older = {"first_step": 0, "flags": flags.splitlines()}
    text = flags if keep == "train.flags" else json.dumps({"starts": [older]})
    pathlib.Path(options.workdir, keep).write_text(text)
    larger = dataclasses.replace(options, global_batch_size=16)
    assert position.find(larger, 10, 1, PAIRS) == (Position(pairs=80, order_pairs=80), None)


CHANGES = {
    "--seed=1, before 0": dict(seed=1),
    "--genuine_only=true, before false": dict(input=InputOptions(genuine_only=True)),
    "--images_per_identity=4, before 0": dict(input=InputOptions(images_per_identity=4)),
    "--data_service": dict(input=InputOptions(data_service="grpc://host:1")),
}


@pytest.mark.parametrize("said", CHANGES)
def test_another_order_begins_a_new_epoch_and_says_why(options, said):
    resume(options, 0)
    place, message = position.find(dataclasses.replace(options, **CHANGES[said]), 10, 1, PAIRS)
    assert place == Position(pairs=80, order_pairs=0, order_epoch=2)
    assert message.startswith("a new epoch begins at step 10") and said in message
    assert line(options, 10) is None  # the flags of before go on inside the epoch


def test_other_shards_and_other_input_workers_begin_a_new_epoch(options, tmp_path):
    resume(options, 0)
    assert "2 input workers, before 1" in line(options, 10, workers=2)
    (tmp_path / "manifest.json").write_text("{}")
    assert "holds other shards" in line(dataclasses.replace(options, tfrecords=str(tmp_path)), 10)


def test_a_new_epoch_is_whole_and_in_an_order_of_its_own(options):
    resume(options, 0)
    resume(dataclasses.replace(options, seed=7), 3)
    place = resume(options, 5)
    shown = draw(options, place, PAIRS)
    assert place.order_epoch == 2 and len(set(shown)) == PAIRS
    assert shown != draw(options, Position(), PAIRS)


@pytest.mark.parametrize("value", ["2048", "7"])
def test_another_shuffle_buffer_of_an_earlier_version_begins_a_new_epoch(options, value):
    flags = [*fv_options.to_flagfile(options).splitlines(), f"--shuffle_buffer={value}"]
    start = {"first_step": 0, "flags": flags}
    pathlib.Path(options.workdir, "run.json").write_text(json.dumps({"starts": [start]}))
    said = f"--shuffle_buffer={value}, which is 2048 now"
    assert (said in (line(options, 10) or "")) == (value != "2048")


@pytest.mark.parametrize(("mixed", "epoch"), [([], 3), (["--hard_tfrecords=hard"], 5)])
def test_a_run_of_an_earlier_version_goes_on_behind_its_position(options, mixed, epoch):
    flags = [*fv_options.to_flagfile(options).splitlines(), "--hard_share=0.5", *mixed]
    noted = dict(pairs=400, order_pairs=40, order_step=45, order_epoch=3)
    start = {"first_step": 50, "flags": flags, "position": noted}
    pathlib.Path(options.workdir, "run.json").write_text(json.dumps({"starts": [start]}))
    place, message = position.find(options, 60, 1, PAIRS)
    assert place == Position(pairs=480, order_pairs=0 if mixed else 120, order_epoch=epoch)
    assert (message or "").endswith("--hard_tfrecords=hard is no longer mixed in" if mixed else "")


def test_the_printed_epoch_goes_on_where_it_was(options, tmp_path):
    options = dataclasses.replace(options, report=ReportOptions(log_every=2, validate_every=0))
    train(dataclasses.replace(options, steps=10))
    train(dataclasses.replace(options, steps=12, global_batch_size=16))
    starts = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert starts[1]["position"]["pairs"] == 80
    epochs = {step: float(value) for step, value in events(tmp_path)["epoch"].items()}
    assert epochs[10] == 80 / PAIRS and epochs[12] == (80 + 2 * 16) / PAIRS
