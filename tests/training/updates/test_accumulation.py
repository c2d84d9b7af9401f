import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import TINY
from tests.training.stepping import (
    DEFAULTS,
    GLOBAL_BATCH,
    batches,
    one_device,
    trainer,
    two_replicas,
)

RATE = 0.1
PLAIN = dataclasses.replace(
    DEFAULTS, optimizer="sgd", learning_rate=RATE, weight_decay=0.0, decay="constant"
)


def without_batch_norm(shards, parts: int, strategy=one_device, **arguments):
    """A trainer whose normalisation stands still, as a frozen backbone's: nothing mixes the images of a batch."""
    options = dataclasses.replace(PLAIN, accumulate_steps=parts)
    return trainer(
        shards,
        strategy(),
        options,
        frozen=True,
        model=dataclasses.replace(TINY, dropout=0.3),
        **arguments,
    )


def test_small_batches_give_the_steps_of_a_large_one_augmentation_and_dropout_included(shards):
    whole = without_batch_norm(shards, 1, augment=True)
    losses = whole.run(3)
    for parts, strategy in ((4, one_device), (2, two_replicas)):
        parted = without_batch_norm(shards, parts, strategy, augment=True)
        np.testing.assert_allclose(parted.run(3), losses, rtol=1e-5)
        for name, value in whole.weights().items():
            np.testing.assert_allclose(
                parted.weights()[name], value, rtol=1e-5, atol=1e-6, err_msg=name
            )


def test_a_step_of_parts_is_that_of_the_mean_gradient_by_hand(shards):
    made = trainer(shards, options=dataclasses.replace(PLAIN, accumulate_steps=4), frozen=True)
    batch = next(batches(shards, one_device()))
    with tf.GradientTape() as tape:
        embeddings = made.model.embed_pairs(batch["images"], training=True)
        loss = (
            tf.reduce_sum(made.model.head.losses(embeddings, batch["label"], batch["identities"]))
            / GLOBAL_BATCH
        )
    variables = made.model.trainable_variables
    expected = [
        each - 1.9 * RATE * slope
        for each, slope in zip(variables, tape.gradient(loss, variables), strict=True)
    ]
    assert made.run(1)[0] == pytest.approx(float(loss), rel=1e-5)
    for value, variable in zip(expected, variables, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)


def test_sums_are_zero_between_steps_and_a_step_stays_one_update(shards):
    made = without_batch_norm(shards, 4)
    made.run(2)
    assert all(each.iterations.numpy() == 2 for each in made.updater.optimizers)
    assert not any(np.any(each) for each in made.step._sums.take(made.model.trainable_variables))
