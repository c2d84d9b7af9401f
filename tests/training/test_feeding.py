import dataclasses
import json
import pathlib
import shutil
import time
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from fv.errors import UserError
from fv.model import siamese
from fv.pipeline.augment import AugmentOptions
from fv.pipeline.damage import DamagedRecords
from fv.training import feeding, optimizers
from fv.training import strategy as strategies
from fv.training.feeding import StallMeter
from fv.training.optimizers import Updater
from fv.training.options import OptimizerOptions
from fv.training.run_record import Position
from fv.training.step import TrainStep
from tests.conftest import TINY

BATCH = 256  # makes a step as long as some hundredths of a second
STEPS = 8
TRIES = 3  # a busy machine may delay the thread that has the batch


class SleepingStep(TrainStep):
    """Its computation is a sleep, whose real length is known on a busy machine too."""

    seconds, computed = 0.0, 0.0  # of each sleep as wanted, and of all of them as they were

    def _replica_step(
        self, batch: dict[str, tf.Tensor], step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        loss = tf.numpy_function(self._sleep, [batch["label"]], tf.float32)
        return tf.ensure_shape(loss, ()), tf.constant(True)

    def _sleep(self, _: np.ndarray) -> np.float32:
        began = time.perf_counter()
        time.sleep(self.seconds)
        self.computed += time.perf_counter() - began
        return np.float32(1.0)


def step_of(strategy: tf.distribute.Strategy, kind: type[TrainStep]) -> TrainStep:
    with strategy.scope():
        model = siamese.build_siamese(TINY, identities=6)
        options = OptimizerOptions()
        updater = Updater(options, optimizers.build_schedule(options, 100, BATCH), model)
    return kind(
        strategy, model, updater, AugmentOptions(augment=False), global_batch_size=BATCH, seed=0
    )


def measured(
    strategy: tf.distribute.Strategy, seconds_per_batch: float, kind: type[TrainStep]
) -> tuple[StallMeter, float]:
    """The meter and the seconds of some steps on synthetic batches, after two for warming up."""
    batches = iter(
        strategy.distribute_datasets_from_function(lambda _: throttled(strategy, seconds_per_batch))
    )
    step = step_of(strategy, kind)
    step.run(batches, 0, 2)
    step.meter.waited = step.meter.elapsed = 0.0
    began = time.perf_counter()
    step.run(batches, 2, STEPS)
    return step.meter, time.perf_counter() - began


def throttled(strategy: tf.distribute.Strategy, seconds: float) -> tf.data.Dataset:
    count = BATCH // strategy.num_replicas_in_sync
    batch = {
        "images": tf.zeros((count, 2, TINY.image_size, TINY.image_size, 3), tf.uint8),
        "label": tf.zeros(count, tf.int32),
        "identities": tf.zeros((count, 2), tf.int32),
        "valid": tf.ones(count, tf.bool),
    }

    def wait(index: tf.Tensor) -> dict[str, tf.Tensor]:
        late = tf.numpy_function(lambda: (time.sleep(seconds), 0)[1], [], tf.int64)
        with tf.control_dependencies([late, index]):
            return tf.nest.map_structure(tf.identity, batch)

    if not seconds:
        return tf.data.Dataset.from_tensors(batch).repeat().prefetch(2)
    return tf.data.Dataset.range(10**6).map(wait)


def test_synthetic_input_is_far_below_input_bound():
    def share() -> float:
        free, seconds = measured(tf.distribute.OneDeviceStrategy("CPU:0"), 0.0, TrainStep)
        assert free.elapsed == pytest.approx(seconds, rel=0.15)
        return free.share

    assert any(share() < feeding.BOUND_SHARE / 2 for _ in range(TRIES))


@pytest.mark.slow
def test_a_step_on_one_core_is_not_measured_as_waiting(command):
    script = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from tests.training import test_feeding as own
print(own.measured(own.tf.distribute.OneDeviceStrategy("CPU:0"), 0.0, own.TrainStep)[0].share)
"""
    assert any(float(command("-c", script).stdout) < feeding.BOUND_SHARE for _ in range(TRIES))


@pytest.fixture(scope="module")
def sleeping() -> SleepingStep:
    return step_of(tf.distribute.OneDeviceStrategy("CPU:0"), SleepingStep)


@pytest.mark.parametrize(
    ("input_ms", "step_ms"), [(0, 50), (30, 60), (60, 54), (80, 60), (100, 50), (100, 10)]
)
def test_an_input_of_known_slowness_reads_its_share_of_the_time(
    sleeping, monkeypatch, input_ms, step_ms
):
    monkeypatch.setattr(SleepingStep, "seconds", step_ms / 1000)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    batches = iter(strategy.experimental_distribute_dataset(throttled(strategy, input_ms / 1000)))
    sleeping.run(batches, 0, 5)  # uses up what came ahead
    # One batch is fetched while a step works on another.
    wanted = max(0, input_ms - step_ms) / max(input_ms, step_ms)

    def shares() -> tuple[float, float]:
        before, computed = dataclasses.replace(sleeping.meter), sleeping.computed
        sleeping.run(batches, 5, 10)
        found = sleeping.meter.since(before)
        return found.share, 1 - (sleeping.computed - computed) / found.elapsed

    def right(tried: list[tuple[float, float]]) -> bool:
        near_clock = [abs(read - true) < 0.05 for read, true in tried]
        near_wanted = [abs(read - wanted) < 0.2 for read, _ in tried]  # sleeps may be longer
        return any(near_clock) and any(near_wanted)

    tried = []
    while len(tried) < TRIES and not right(tried):
        tried.append(shares())
    assert right(tried), tried


@pytest.mark.slow
def test_replicas_wait_together(monkeypatch):
    monkeypatch.setattr(SleepingStep, "seconds", 0.02)
    late, seconds = measured(strategies.mirrored_cpus(2), 0.2, SleepingStep)
    assert 0.6 < late.share <= 1.0 and late.elapsed == pytest.approx(seconds, rel=0.15)


def test_the_verdict_says_if_the_run_is_input_bound_and_what_to_change():
    assert (
        StallMeter(1.0, 50.0).verdict("do this")
        == "2% of the training time was spent waiting for input: not input-bound"
    )
    assert StallMeter(20.0, 50.0).verdict("do this").endswith("input: input-bound; do this")


def test_a_share_since_a_copy_counts_only_what_came_after():
    meter = StallMeter(1.0, 2.0)
    meter.add(0.0, 2.0)
    assert meter.share == 0.25 and meter.since(StallMeter(1.0, 2.0)).share == 0.0
    assert StallMeter().share == 0.0


def batches(options, strategy):
    source, _ = feeding.pair_sources(options)
    return feeding.training_batches(
        strategy, source, options, Position(), DamagedRecords(options.tfrecords)
    )


def test_a_run_needs_no_memory_per_step(tiny_run):
    endless = dataclasses.replace(
        tiny_run, steps=2**40
    )  # eight bytes for each are more than any machine has
    assert (
        next(batches(endless, tf.distribute.OneDeviceStrategy("CPU:0")))["images"].shape[0]
        == tiny_run.global_batch_size
    )


class Worker:
    """As much of a cluster's strategy as feeding asks of it."""

    def __init__(self, index: int, workers: int):
        self._context = tf.distribute.InputContext(workers, index, workers)

    def distribute_datasets_from_function(
        self, make: Callable[[tf.distribute.InputContext], tf.data.Dataset]
    ):
        return make(self._context)


def draw(options, worker: Worker, first_step: int, steps: int) -> list[np.ndarray]:
    """The images of a worker's next batches behind so many steps of the run."""
    source, _ = feeding.pair_sources(options)
    place = Position().advance(first_step * options.global_batch_size)
    stream = feeding.training_batches(
        worker, source, options, place, DamagedRecords(options.tfrecords)
    )
    return [next(stream)["images"].numpy() for _ in range(steps)]


@pytest.mark.parametrize("workers", [1, 3])
def test_each_worker_continues_after_its_share_of_the_earlier_steps(tiny_run, workers):
    """Three workers read 4 of their 22 or 21 pairs a step: the sixth step is in epoch two."""
    options = dataclasses.replace(tiny_run, global_batch_size=12)
    for index in range(workers):
        undisturbed = draw(options, Worker(index, workers), 0, 7)
        np.testing.assert_array_equal(draw(options, Worker(index, workers), 4, 3), undisturbed[4:])
        assert len({batch.tobytes() for batch in undisturbed}) == 7


def test_crops_may_reach_to_the_edge_of_the_stored_image(tiny_run):
    model = dataclasses.replace(tiny_run.model, crop_fraction=0.8)
    wide = dataclasses.replace(
        tiny_run, model=model, augmentation=AugmentOptions(scale=(0.85, 1.25))
    )
    training, validation = feeding.pair_sources(wide)
    assert (training.crop_fraction, validation.crop_fraction) == (1.0, 0.8)
    assert (
        next(batches(wide, tf.distribute.OneDeviceStrategy("CPU:0")))["images"].shape[2]
        == training.image_size
    )
    with pytest.raises(UserError, match="--scale=0.85,1.3 reaches .* room for 1.25"):
        feeding.pair_sources(
            dataclasses.replace(wide, augmentation=AugmentOptions(scale=(0.85, 1.3)))
        )


def test_validation_pairs_of_one_label_are_refused(tiny_run, tmp_path):
    held = json.loads(pathlib.Path(tiny_run.tfrecords, "manifest.json").read_text())
    held["splits"]["val"] |= {
        "genuine": sum(held["splits"]["val"][name] for name in ("genuine", "impostor")),
        "impostor": 0,
    }
    shutil.copytree(tiny_run.tfrecords, tmp_path / "copy")
    (tmp_path / "copy" / "manifest.json").write_text(json.dumps(held))
    with pytest.raises(UserError, match="copy holds no impostor val pairs"):
        feeding.pair_sources(dataclasses.replace(tiny_run, tfrecords=str(tmp_path / "copy")))
