import time

import pytest
import tensorflow as tf

from fv.model import siamese
from fv.pipeline.augment import AugmentOptions
from fv.training import strategy as strategies
from fv.training.options import OptimizerOptions
from fv.training.step import TrainStep
from fv.training.updates import schedule
from fv.training.updates.updater import Updater
from fv.training.watching.stall import StallMeter
from tests.conftest import TINY

BATCH = 256  # makes a step as long as some hundredths of a second
STEPS, DELAY = 8, 0.2  # and seconds per batch
TRIES = 4  # steps take as long with a wait as without one only while the machine is as busy


def measured(strategy: tf.distribute.Strategy, steps: int, seconds_per_batch: float) -> tuple[StallMeter, float]:
    """The meter and the seconds of some steps on synthetic batches, after two for warming up."""
    with strategy.scope():
        model = siamese.build_siamese(TINY, identities=6)
        options = OptimizerOptions()
        updater = Updater(options, schedule.build_schedule(options, 100, BATCH), model)
    batches = iter(strategy.distribute_datasets_from_function(lambda _: throttled(strategy, seconds_per_batch)))
    step = TrainStep(strategy, model, updater, AugmentOptions(augment=False), global_batch_size=BATCH, seed=0)
    step.run(batches, 0, 2)
    step.meter.waited = step.meter.elapsed = 0.0
    began = time.perf_counter()
    step.run(batches, 2, steps)
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


def off_its_true_share() -> float:
    """How far the share of a throttled input is from the one that the same steps without a wait leave it."""
    free, computing = measured(tf.distribute.OneDeviceStrategy("CPU:0"), STEPS, 0.0)
    assert free.share < 0.2 and free.elapsed == pytest.approx(computing, rel=0.1)
    late, seconds = measured(tf.distribute.OneDeviceStrategy("CPU:0"), STEPS, DELAY)
    assert late.elapsed == pytest.approx(seconds, rel=0.1)
    return abs(late.share - (seconds - computing) / seconds)


def test_a_throttled_input_reads_near_its_true_share_and_a_synthetic_one_near_zero():
    assert any(off_its_true_share() < 0.2 for _ in range(TRIES))


def test_replicas_wait_together():
    late, seconds = measured(strategies.mirrored_cpus(2), STEPS, DELAY)
    assert 0.4 < late.share <= 1.0 and late.elapsed == pytest.approx(seconds, rel=0.1)


def test_the_verdict_says_whether_the_input_bound_the_run_and_what_to_change():
    assert StallMeter(1.0, 50.0).verdict("do this") == "2% of the training time was spent waiting for input: not input-bound"
    assert StallMeter(20.0, 50.0).verdict("do this").endswith("input: input-bound; do this")


def test_shares_are_of_what_was_counted_since():
    meter = StallMeter(1.0, 2.0)
    meter.add(0.0, 2.0)
    assert meter.share == 0.25 and meter.since(StallMeter(1.0, 2.0)).share == 0.0
    assert StallMeter().share == 0.0
