"""Tests of fv.addons, each part against a computation by hand."""

import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from fv import addons
from fv.errors import UserError

needs_addons = pytest.mark.skipif(
    not addons.available(), reason="tensorflow-addons has no wheels for this Python"
)

WEIGHTS = np.array([3.0, 4.0], np.float32)
GRADIENT = np.array([0.5, -2.0], np.float32)


@needs_addons
def test_one_lamb_step_is_the_papers_formula():
    kernel = tf.Variable(WEIGHTS, name="kernel")
    addons.lamb(0.1, weight_decay=0.01).apply_gradients([(tf.constant(GRADIENT), kernel)])

    # After one step the bias-corrected moments are the gradient and its square, so their quotient
    # is the sign.
    update = np.sign(GRADIENT) + 0.01 * WEIGHTS
    trust_ratio = np.linalg.norm(WEIGHTS) / np.linalg.norm(update)
    np.testing.assert_allclose(kernel, WEIGHTS - 0.1 * trust_ratio * update, rtol=1e-5)


@needs_addons
def test_lamb_that_adapts_no_layers_updates_without_decay_and_trust_ratio():
    bias = tf.Variable(WEIGHTS, name="dense/bias")
    optimizer = addons.lamb(0.1, weight_decay=0.01, adapts_layers=False)
    optimizer.apply_gradients([(tf.constant(GRADIENT), bias)])

    np.testing.assert_allclose(bias, WEIGHTS - 0.1 * np.sign(GRADIENT), rtol=1e-5)


@needs_addons
def test_lookahead_goes_half_the_way_of_two_rectified_adam_steps():
    weights = tf.Variable(WEIGHTS)
    optimizer = addons.rectified_adam_lookahead(0.1, sync_period=2, slow_step_size=0.5)
    for _ in range(2):
        optimizer.apply_gradients([(tf.constant(GRADIENT), weights)])

    # The first five steps of Rectified Adam are not yet rectified: each is the learning rate times
    # the mean gradient.
    np.testing.assert_allclose(weights, WEIGHTS - 0.5 * (2 * 0.1 * GRADIENT), rtol=1e-5)


@needs_addons
@pytest.mark.parametrize("make", [addons.lamb, addons.rectified_adam_lookahead])
def test_a_learning_rate_set_later_is_the_one_used(make):
    weights = tf.Variable(WEIGHTS)
    optimizer = make(0.1)
    optimizer.learning_rate = 0.0
    optimizer.apply_gradients([(tf.constant(GRADIENT), weights)])

    np.testing.assert_array_equal(weights, WEIGHTS)


@needs_addons
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_cutout_zeroes_the_mask_and_nothing_else(dtype):
    images = np.full([2, 8, 10, 3], 7, dtype)
    expected = images.copy()
    expected[0, 2:6, 3:5] = 0
    expected[1, :2, 9:] = 0  # reaches over the corner
    cut = addons.cutout(images, mask_size=(4, 2), offset=[[4, 4], [0, 10]])

    np.testing.assert_array_equal(cut, expected)
    assert cut.dtype == dtype


@needs_addons
def test_cutout_in_tf_data_equals_cutout_called_eagerly(caplog):
    images, offsets = (
        tf.random.stateless_uniform([4, 8, 8, 3], seed=(1, 2)),
        tf.constant([[1, 2], [3, 4], [5, 6], [7, 0]]),
    )
    dataset = tf.data.Dataset.from_tensors((images, offsets)).map(
        lambda *pair: addons.cutout(pair[0], 4, pair[1])
    )

    np.testing.assert_array_equal(next(iter(dataset)), addons.cutout(images, 4, offsets))
    assert not caplog.messages  # AutoGraph warns of what it cannot convert


@needs_addons
@pytest.mark.slow
def test_the_import_is_silent_and_leaves_keras_3_as_it_was():
    script = """
import sys
import fv.quiet_tensorflow
import keras
layers = keras.layers
from fv import addons
addons.lamb(0.1)
import keras
assert keras.__version__.startswith("3.") and keras.layers is layers
assert sys.modules["keras.layers"] is layers
assert not any("engine" in name for name in sys.modules if name.startswith("keras."))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


@needs_addons
def test_where_tf_keras_is_keras_3_the_choice_is_refused_with_what_to_do(monkeypatch):
    keras_3 = types.SimpleNamespace(keras=types.SimpleNamespace(Model=object))
    monkeypatch.setattr(addons, "tf", keras_3)
    with pytest.raises(UserError, match="the LAMB optimizer needs .*import fv before TensorFlow"):
        addons.lamb(0.1)


@needs_addons
@pytest.mark.slow
def test_a_program_that_used_keras_3_first_is_told_to_import_fv_first():
    script = """
import os
os.environ.pop("TF_USE_LEGACY_KERAS", None)
import tensorflow as tf
tf.keras.Model
from fv import addons
addons.lamb(0.1)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (
        "UserError: the LAMB optimizer needs" in run.stderr
        and "import fv before TensorFlow" in run.stderr
    )


@pytest.mark.parametrize(
    ("call", "choice"),
    [
        (lambda: addons.lamb(0.1), "LAMB"),
        (lambda: addons.rectified_adam_lookahead(0.1), "Lookahead"),
        (lambda: addons.cutout(np.zeros([1, 4, 4, 3]), 2, [[2, 2]]), "cutout"),
    ],
)
def test_without_tensorflow_addons_the_choice_is_refused_by_name(call, choice, monkeypatch):
    monkeypatch.setattr(addons, "available", lambda: False)
    with pytest.raises(UserError, match=rf"{choice}.* needs tensorflow-addons.*Python 3\.11"):
        call()
