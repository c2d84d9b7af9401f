import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import pytest

from tests.conftest import TINY
from tests.training.stepping import DEFAULTS, one_device, trainer, two_replicas

STEPS = 6
# Adam's first steps have the size of the rate however small a gradient is, noise included: SGD shows the noise alone.
SGD = dataclasses.replace(DEFAULTS, optimizer="sgd", learning_rate=0.02)
AUGMENTED = dict(augment=True, options=SGD)
HEADS = ["softmax", "sigmoid", "distance"]


def losses(shards, strategy, *, head="softmax", calls=(STEPS,), **arguments) -> np.ndarray:
    """The first steps' losses of a fresh model under the strategy, from one seed, in calls of so many steps."""
    made = trainer(
        shards, strategy, model=dataclasses.replace(TINY, head=head), steps=sum(calls), **arguments
    )
    return np.concatenate([made.run(count) for count in calls])


@pytest.fixture(scope="module")
def of_one_replica(shards) -> Callable[[str], np.ndarray]:
    """Head → losses of one replica, augmentation included; each head's run is made once."""
    return functools.cache(lambda head: losses(shards, one_device(), head=head, **AUGMENTED))


@pytest.mark.parametrize("head", HEADS)
def test_one_replica_and_two_agree_with_synchronised_batch_norm_and_augmentation(
    shards, of_one_replica, head
):
    two = losses(shards, two_replicas(), head=head, sync=True, **AUGMENTED)
    np.testing.assert_allclose(of_one_replica(head), two, rtol=1e-4)


def test_the_weights_and_statistics_of_a_frozen_backbone_stand_still(shards):
    made = trainer(shards, two_replicas(), frozen=True, steps=2)
    held = made.model.encoder.get_layer("backbone").weights
    before = [each.numpy() for each in held]
    made.run(2)
    for value, now in zip(before, held, strict=True):
        np.testing.assert_array_equal(value, now)


def test_two_replicas_without_synchronised_batch_norm_do_differ(shards, of_one_replica):
    two = losses(shards, two_replicas(), **AUGMENTED)
    assert (
        np.abs(of_one_replica("softmax") / two - 1).max() > 1e-3
    )  # or the tests above would show nothing


def test_several_steps_in_one_call_are_the_same_steps(shards):
    whole, parted = (
        losses(shards, one_device(), augment=True, calls=calls) for calls in ((STEPS,), (1, 2, 3))
    )
    np.testing.assert_allclose(whole, parted, rtol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_falls(shards, head):
    result = losses(shards, one_device(), head=head, calls=(40,))
    assert result[-8:].mean() < 0.8 * result[:4].mean()
