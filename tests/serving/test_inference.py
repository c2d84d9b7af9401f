import concurrent.futures
import threading

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv.model import siamese
from fv.model.options import BACKBONES, ModelOptions
from fv.serving import inference

FAST = ("tiny", "conv8")
SIDE = 4
SPEC = tf.TensorSpec([None, SIDE], tf.float32)


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES],
)
@pytest.mark.parametrize("regions", [None, "0:0:1:1:75,0.1:0.2:0.9:0.7:128"])
def test_a_folded_encoder_embeds_as_the_trained_one(name, regions):
    mirror = regions is not None
    options = ModelOptions(backbone=name, image_size=75, regions=regions, mirror=mirror)
    encoder = siamese.build_encoder(options)
    rng = np.random.default_rng(0)
    for layer in _norms(encoder):
        # A new layer's statistics, 0 and 1, would hide a mistake.
        for weight in layer.weights:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    pixels = rng.integers(0, 256, (3, 75, 75, 3), dtype=np.uint8)
    folded = inference.fold_batch_norm(encoder)
    wanted = encoder(pixels, training=False).numpy()
    (found,) = inference.freeze(folded)(tf.constant(pixels))
    assert not _norms(folded)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


def test_a_batch_norm_is_kept_where_others_read_the_convolution():
    images = tf_keras.Input((8, 8, 3))
    features = tf_keras.layers.Conv2D(4, 3)(images)
    normalised = tf_keras.layers.BatchNormalization()(features)
    network = tf_keras.Model(images, tf_keras.layers.Add()([features, normalised]))
    assert not inference._find_foldable(network)


def _norms(encoder: tf_keras.Model) -> list[tf_keras.layers.Layer]:
    layers = encoder.get_layer("backbone").submodules
    return [layer for layer in layers if isinstance(layer, tf_keras.layers.BatchNormalization)]


def merged(factor: float, name: str, most: int = 8):
    """Rows times a variable, and the sizes of the batches that went through."""
    weight, sizes = tf.Variable(factor), tf.Variable(0)

    @tf.function(input_signature=[SPEC], autograph=False)
    def encode(rows):
        sizes.assign(tf.maximum(sizes, tf.shape(rows)[0]))
        return rows * weight

    call = inference.merge_requests(encode.get_concrete_function(), most, name)
    return tf.function(call, input_signature=[SPEC], autograph=False), sizes, weight


def call_at_once(call, values) -> list[np.ndarray]:
    """Answers to rows of each of the values, from as many threads that start together."""
    start = threading.Barrier(len(values))

    def one(value):
        start.wait()
        return call(tf.fill([2, SIDE], float(value))).numpy()

    with concurrent.futures.ThreadPoolExecutor(len(values)) as pool:
        return list(pool.map(one, values))


def test_every_caller_gets_its_own_rows_and_batches_are_limited():
    call, sizes, _ = merged(3.0, "own rows", most=8)
    for _ in range(20):
        answers = call_at_once(call, range(16))
        np.testing.assert_array_equal([answer[0, 0] for answer in answers], 3.0 * np.arange(16))
    assert 2 <= sizes.numpy() <= 8


def test_a_call_larger_than_a_batch_is_split_and_comes_back_in_order():
    call, sizes, _ = merged(2.0, "split", most=8)
    rows = np.arange(100 * SIDE, dtype=np.float32).reshape(100, SIDE)
    np.testing.assert_array_equal(call(tf.constant(rows)), 2 * rows)
    assert sizes.numpy() <= 8


def test_two_models_of_one_process_do_not_merge():
    (twice, *_), (thrice, *_) = kept = merged(2.0, "twice"), merged(3.0, "thrice")
    for _ in range(20):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            two, three = pool.map(lambda call: call_at_once(call, range(6)), (twice, thrice))
        np.testing.assert_array_equal([answer[0, 0] for answer in two], 2.0 * np.arange(6))
        np.testing.assert_array_equal([answer[0, 0] for answer in three], 3.0 * np.arange(6))
    assert len(kept) == 2
