import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv import addons
from fv.training import optimizers
from fv.training.options import OPTIMIZERS, OptimizerOptions

NEEDS_ADDONS = ("lamb", "radam")


def test_the_learning_rate_rises_then_falls_along_half_a_cosine_to_zero():
    schedule = optimizers.build_schedule(OptimizerOptions(learning_rate=0.4, warmup_steps=4), steps=12)
    rates = [float(schedule(step)) for step in range(13)]
    np.testing.assert_allclose(rates[:4], [0.1, 0.2, 0.3, 0.4], rtol=1e-5)
    np.testing.assert_allclose(rates[8], 0.2, rtol=1e-5)
    assert rates[12] == pytest.approx(0.0, abs=1e-6) and rates[4:] == sorted(rates[4:], reverse=True)


def test_a_constant_rate_stays_after_warm_up():
    schedule = optimizers.build_schedule(OptimizerOptions(learning_rate=0.4, warmup_steps=0, decay="constant"), steps=12)
    np.testing.assert_allclose([float(schedule(step)) for step in (0, 5, 50)], 0.4, rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_walks_down_a_quadratic(name):
    if name in NEEDS_ADDONS and not addons.available():
        pytest.skip("tensorflow-addons has no wheel for this Python")
    options = OptimizerOptions(optimizer=name, learning_rate=0.05, warmup_steps=0, decay="constant", weight_decay=0.0)
    optimizer = optimizers.build_optimizer(options, optimizers.build_schedule(options, 100))
    weight = tf.Variable([3.0, -2.0], name="kernel")
    for _ in range(60):
        optimizer.apply_gradients([(2.0 * weight, weight)])
    assert np.linalg.norm(weight) < np.linalg.norm([3.0, -2.0]) - 0.5


def test_weight_decay_leaves_biases_and_norms_alone():
    options = OptimizerOptions(learning_rate=0.1, warmup_steps=0, decay="constant", weight_decay=0.5)
    optimizer = optimizers.build_optimizer(options, optimizers.build_schedule(options, 100))
    weights = [tf.Variable([2.0], name=name) for name in ("kernel", "bias", "beta", "gamma")]
    optimizer.apply_gradients([(tf.zeros(1), weight) for weight in weights])
    np.testing.assert_allclose(np.ravel(weights), [2.0 * (1 - 0.1 * 0.5), 2.0, 2.0, 2.0], rtol=1e-5)


def test_gradients_are_clipped_to_their_global_norm():
    options = OptimizerOptions("sgd", learning_rate=1.0, warmup_steps=0, decay="constant", weight_decay=0.0, clip_norm=1.0)
    optimizer = optimizers.build_optimizer(options, optimizers.build_schedule(options, 100))
    weight = tf.Variable([0.0, 0.0])
    optimizer.apply_gradients([(tf.constant([30.0, 40.0]), weight)])
    np.testing.assert_allclose(weight, -1.9 * np.array([0.6, 0.8]), rtol=1e-5)  # Nesterov's first step is 1 + 0.9


def test_float16_scales_the_loss():
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    options = OptimizerOptions()
    optimizer = optimizers.build_optimizer(options, optimizers.build_schedule(options, 100))
    assert isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer)
