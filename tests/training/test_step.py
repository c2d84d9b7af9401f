import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv import manifest
from fv.model import encoder, siamese
from fv.pipeline import input_pipeline
from fv.pipeline.augment import AugmentOptions
from fv.pipeline.input_pipeline import PairSource
from fv.training import optimizers
from fv.training import strategy as strategies
from fv.training.options import OptimizerOptions
from fv.training.step import TrainStep
from tests.conftest import TINY

GLOBAL_BATCH = 8
STEPS = 6


def losses(strategy, shards, *, head="softmax", sync=True, frozen=False, augment=False, calls=(STEPS,)) -> np.ndarray:
    """The first steps' losses of a fresh model under the strategy, from one seed."""
    held = manifest.load(str(shards))
    source = PairSource(str(shards), held.split("train"), TINY.image_size, 1.0, held.split("train").identities)
    options = OptimizerOptions(learning_rate=1e-2, warmup_steps=0)
    tf_keras.utils.set_random_seed(5)
    with strategy.scope():
        model = siamese.build_siamese(dataclasses.replace(TINY, head=head), identities=6, sync_batch_norm=sync)
        if frozen:
            encoder.freeze_backbone(model.encoder)
        optimizer = optimizers.build_optimizer(options, optimizers.build_schedule(options, sum(calls)))
    per_replica = GLOBAL_BATCH // strategy.num_replicas_in_sync
    batches = iter(
        strategy.distribute_datasets_from_function(
            lambda _: input_pipeline.training_batches(source, batch_size=per_replica, seed=1, shuffle_buffer=16)
        )
    )
    step = TrainStep(strategy, model, optimizer, AugmentOptions(augment=augment), global_batch_size=GLOBAL_BATCH, seed=2)
    firsts = np.cumsum((0, *calls[:-1]))
    return np.concatenate([step.run(batches, int(first), count) for first, count in zip(firsts, calls, strict=True)])


def one_device() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("CPU:0")


def two_replicas() -> tf.distribute.Strategy:
    return strategies.mirrored_cpus(2)


@pytest.mark.parametrize("head", ["softmax", "sigmoid", "distance"])
def test_one_replica_and_two_agree_with_synchronised_batch_norm_and_augmentation(shards, head):
    arguments = dict(head=head, augment=True)
    np.testing.assert_allclose(
        losses(one_device(), shards, **arguments), losses(two_replicas(), shards, **arguments), rtol=2e-4
    )


def test_one_replica_and_two_agree_with_a_frozen_backbone(shards):
    arguments = dict(frozen=True, sync=False)
    np.testing.assert_allclose(
        losses(one_device(), shards, **arguments), losses(two_replicas(), shards, **arguments), rtol=2e-4
    )


def test_two_replicas_without_synchronised_batch_norm_do_differ(shards):
    one, two = losses(one_device(), shards, sync=False), losses(two_replicas(), shards, sync=False)
    assert np.abs(one / two - 1).max() > 1e-3  # or the tests above would show nothing


def test_several_steps_in_one_call_are_the_same_steps(shards):
    np.testing.assert_allclose(
        losses(one_device(), shards, augment=True), losses(one_device(), shards, augment=True, calls=(1, 2, 3)), rtol=1e-5
    )


@pytest.mark.parametrize("head", ["softmax", "sigmoid", "distance"])
def test_the_loss_falls(shards, head):
    result = losses(one_device(), shards, head=head, calls=(40,))
    assert result[-8:].mean() < 0.8 * result[:4].mean()
