import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv.training.updates.loss_scale import LossScale
from fv.training.updates.optimizer_options import AveragingOptions
from tests.conftest import TINY
from tests.training.stepping import DEFAULTS, one_device, trainer, two_replicas

HUGE = 2.0**60  # a loss scale at which every gradient overflows float16


def test_the_scale_doubles_after_enough_good_steps_and_halves_at_each_overflow():
    scale = LossScale(initial=16.0, growth_steps=3)
    seen = []
    for finite in (True, True, True, True, True, False, False, True, True, True, True):
        scale.update(tf.constant(finite))
        seen.append((float(scale.scale), int(scale.good_steps)))
    assert seen == [
        (16, 1), (16, 2), (32, 0), (32, 1), (32, 2), (16, 0), (8, 0), (8, 1), (8, 2), (16, 0), (16, 1),
    ]  # fmt: skip


def test_the_scale_stays_between_1_and_2_to_the_24():
    lowest, highest = (
        LossScale(initial=1.0, growth_steps=1),
        LossScale(initial=2.0**24, growth_steps=1),
    )
    lowest.update(tf.constant(False))
    highest.update(tf.constant(True))
    assert (float(lowest.scale), float(highest.scale)) == (1.0, 2.0**24)


def test_a_scaled_loss_has_scaled_gradients_that_unscale_to_the_losss_own():
    scale, weight = LossScale(initial=1024.0), tf.Variable(3.0)
    with tf.GradientTape() as tape:
        objective = scale.scaled(weight**2)
    gradient = tape.gradient(objective, weight)
    assert (float(gradient), float(scale.unscaled([gradient])[0])) == (6.0 * 1024, 6.0)


@pytest.mark.parametrize("strategy", [one_device, two_replicas])
def test_gradients_that_overflow_halve_the_scale_and_reach_neither_weights_nor_slots_nor_averages(
    shards, strategy
):
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    options = dataclasses.replace(DEFAULTS, weight_decay=0.1, decay="constant")
    made = trainer(
        shards,
        strategy(),
        options,
        model=dataclasses.replace(TINY, image_size=8),
        averaging=AveragingOptions("ema", 0.9),
    )
    made.run(1)  # whatever the scale is now
    made.updater.loss_scale.scale.assign(HUGE)
    before = _learnt(made)
    assert np.isfinite(made.run(2)).all()
    after = _learnt(made)
    assert (
        before.keys() == after.keys() and len(before) > 40
    )  # weights, two slots of each, averages
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    assert made.updater.loss_scale.scale.numpy() == HUGE / 4
    made.updater.loss_scale.scale.assign(1.0)
    made.run(1)
    later = _learnt(made)
    assert not any(
        np.array_equal(later[name], value) for name, value in before.items() if "kernel" in name
    )
    assert all(each.iterations.numpy() == 4 for each in made.updater.optimizers)


def _learnt(made) -> dict[str, np.ndarray]:
    """The weights, the optimizers' slots and the averages of the weights, by place and name."""
    slots = [each for rule in made.updater.optimizers for each in rule.variables if each.shape.rank]
    averages = [*made.averages.model.trainable_variables, made.averages.count]
    held = [*made.model.trainable_variables, *slots, *averages]
    return {f"{place} {variable.name}": variable.numpy() for place, variable in enumerate(held)}
