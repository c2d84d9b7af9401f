import dataclasses
import errno
import functools
import os
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv.errors import TemporaryError, UserError
from fv.model import backbones, siamese
from fv.model.backbones import SyncBatchNormalization
from fv.model.options import BACKBONES, ModelOptions
from fv.training import strategy as strategies
from tests.conftest import TINY, slow_case

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(3, 2, (8, 4, 4, 2)).astype(np.float32)
WEIGHTS = RNG.normal(0, 1, IMAGES.shape).astype(np.float32)  # of the loss
PIXELS = RNG.integers(0, 256, (2, 75, 75, 3), dtype=np.uint8)


@pytest.fixture(scope="module", autouse=True)
def built_once() -> Iterator[None]:
    """Builds each backbone of tf_keras.applications once: encoders are made of copies of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "build_plain", functools.cache(backbones.build_plain))
        yield


def backbone_of(options: ModelOptions, **arguments) -> tf_keras.Model:
    return siamese.build_encoder(options, **arguments).get_layer(backbones.NAME)


def test_the_backbones_of_the_option_are_those_that_can_be_built():
    assert tuple(backbones._BACKBONES) == BACKBONES


@pytest.mark.parametrize(
    "backbone",
    [name if name in ("inception_v3", "conv8", "tiny") else slow_case(name) for name in BACKBONES],
)
def test_every_backbone_embeds_images_of_75_pixels(backbone):
    model = siamese.build_encoder(ModelOptions(backbone, image_size=75, embedding_size=8))
    # In training: untrained, MobileNetV3 without batch statistics shrinks features to 1e-6.
    embeddings = model(PIXELS, training=True)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "side", "layer", "shape"),
    [
        ("inception_v3", 75, "mixed7", (3, 3, 768)),
        ("conv8", 64, None, (4, 4, 256)),
        ("conv8", 64, "stage3", (8, 8, 128)),
    ],
)
def test_a_backbone_ends_behind_the_named_layer_or_its_last(backbone, side, layer, shape):
    options = ModelOptions(backbone, layer, image_size=side, embedding_size=8)
    assert backbone_of(options).output_shape == (None, *shape)


@pytest.mark.parametrize(
    ("backbone", "layer"),
    [("efficientnet_v2_b0", "block4c_add"), slow_case("mobilenet_v3", "expanded_conv_9/Add")],
)
def test_a_light_backbone_can_be_cut_and_has_no_dropout(backbone, layer):
    model = siamese.build_encoder(ModelOptions(backbone, layer, image_size=64, embedding_size=8))
    pixels = PIXELS[:, :64, :64]
    np.testing.assert_array_equal(model(pixels, training=True), model(pixels, training=True))


def test_efficientnet_normalises_pixels_as_keras_does():
    pixels = PIXELS[:1, :64, :64].astype(np.float32)
    whole = tf_keras.applications.EfficientNetV2B0(
        include_top=False, weights=None, input_shape=(64, 64, 3)
    )
    ours = backbones.normalise_pixels("efficientnet_v2_b0", tf.constant(pixels))
    first = next(layer for layer in whole.layers if isinstance(layer, tf_keras.layers.Conv2D))
    theirs = tf_keras.Model(whole.input, first.input)(pixels)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ModelOptions(feature_layer="mixed99"),
            "feature_layer=mixed99 is no layer of inception_v3.*mixed7",
        ),
        (ModelOptions(image_size=32), "inception_v3 at 32 × 32 pixels"),
    ],
)
def test_an_unknown_layer_or_a_small_image_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        siamese.build_encoder(options)


def test_every_batch_norm_has_the_asked_momentum_and_synchronisation():
    options = dataclasses.replace(TINY, batch_norm_momentum=0.7)
    layers = [
        layer
        for layer in backbone_of(options, sync_batch_norm=True).layers
        if isinstance(layer, tf_keras.layers.BatchNormalization)
    ]
    assert layers and all(layer.momentum == 0.7 and layer.synchronized for layer in layers)


def normalise(layer_class: type, replicas: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Outputs, gradients of the images, and the layer's weights after one call in training."""
    one = tf.distribute.OneDeviceStrategy("CPU:0")
    strategy = strategies.mirrored_cpus(replicas) if replicas > 1 else one
    with strategy.scope():
        layer = layer_class(momentum=0.5, synchronized=True)
        layer.build(IMAGES.shape)

    @tf.function
    def call(images, weights):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=True)
            loss = tf.reduce_sum(outputs * weights)
        return outputs, tape.gradient(loss, images)

    def share(array: np.ndarray):
        parts = np.split(array, replicas)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    found = strategy.run(call, args=(share(IMAGES), share(WEIGHTS)))
    outputs, gradients = (
        np.concatenate(strategy.experimental_local_results(each)) for each in found
    )
    return outputs, gradients, [weight.numpy() for weight in layer.weights]


@pytest.mark.parametrize("replicas", [1, 2])
def test_synchronised_batch_norm_acts_as_on_the_whole_batch(replicas):
    outputs, gradients, weights = normalise(SyncBatchNormalization, replicas)
    expected = normalise(tf_keras.layers.BatchNormalization, replicas)  # tf_keras's own sums
    np.testing.assert_allclose(outputs, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradients, expected[1], rtol=1e-4, atol=1e-5)
    for found, wanted in zip(weights, expected[2], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    mean, deviation = IMAGES.mean((0, 1, 2)), np.sqrt(IMAGES.var((0, 1, 2)) + 1e-3)
    np.testing.assert_allclose(outputs, (IMAGES - mean) / deviation, rtol=1e-4, atol=1e-5)


def test_a_disk_that_fails_while_weights_are_read_may_be_tried_again(monkeypatch):
    def fail(**_):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "inception.h5")

    failing = backbones._BACKBONES["tiny"]._replace(build=fail)
    monkeypatch.setitem(backbones._BACKBONES, "tiny", failing)
    with pytest.raises(TemporaryError, match="Stale file handle: inception.h5"):
        backbones.build_plain("tiny", (48, 48, 3), "imagenet")
