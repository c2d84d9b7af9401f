import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv.errors import UserError
from fv.model import backbones, encoder
from fv.model.encoder import StatelessDropout
from fv.model.options import ModelOptions
from tests.conftest import TINY, slow_case

SEED = tf.constant([3, 17])


def table(first: int, rows: int, columns: int, seed: tf.Tensor = SEED) -> np.ndarray:
    return encoder.stateless_uniform(seed, tf.constant(first), tf.constant(rows), columns).numpy()


@pytest.mark.parametrize("columns", [1, 6, 64])
def test_rows_drawn_apart_are_those_of_the_whole_table(columns):
    whole = table(0, 12, columns)
    np.testing.assert_array_equal(
        np.concatenate([table(0, 5, columns), table(5, 7, columns)]), whole
    )
    assert len(np.unique(whole)) == whole.size


def test_numbers_are_uniform_and_differ_by_seed_and_step():
    numbers = table(0, 200, 100)
    assert numbers.min() >= 0.0 and numbers.max() < 1.0
    np.testing.assert_allclose(
        np.histogram(numbers, bins=10, range=(0, 1))[0] / numbers.size, 0.1, atol=0.01
    )
    for other in ([3, 18], [4, 17]):
        assert not np.isin(table(0, 200, 100, tf.constant(other)), numbers).mean() > 0.01


def test_it_drops_the_rate_and_keeps_the_mean():
    layer, ones = StatelessDropout(0.3), tf.ones((400, 50))
    with layer.seeded(SEED, tf.constant(0)):
        dropped = layer(ones, training=True).numpy()
    assert set(np.unique(dropped).round(5)) == {0.0, np.float32(1 / 0.7).round(5)}
    assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(layer(ones, training=False), ones)


def test_the_same_seed_and_row_drop_the_same_features_and_a_retraced_graph_does_too():
    layer, ones = StatelessDropout(0.5), tf.ones((4, 10), tf.float16)

    @tf.function
    def drop(step: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        with layer.seeded(tf.stack([1, step]), first):
            return layer(ones, training=True)

    first = drop(tf.constant(5), tf.constant(0)).numpy()
    np.testing.assert_array_equal(drop(tf.constant(5), tf.constant(0)), first)
    np.testing.assert_array_equal(drop(tf.constant(5), tf.constant(2))[:2], first[2:])
    assert (drop(tf.constant(6), tf.constant(0)).numpy() != first).any()


PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module", autouse=True)
def built_once() -> Iterator[None]:
    """Builds each backbone of tf_keras.applications once: encoders are made of copies of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "build_plain", functools.cache(backbones.build_plain))
        yield


def test_embeddings_are_float32_of_unit_length_under_every_precision():
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        tf_keras.mixed_precision.set_global_policy(policy)
        embeddings = encoder.build_encoder(TINY)(PIXELS)
        assert embeddings.dtype == tf.float32 and embeddings.shape == (3, 16)
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    "backbone",
    [
        "inception_v3",
        slow_case("resnet50"),
        slow_case("efficientnet_v2_b0"),
        slow_case("mobilenet_v3"),
    ],
)
def test_the_full_backbones_embed_at_75_pixels(backbone):
    model = encoder.build_encoder(ModelOptions(backbone=backbone, image_size=75, embedding_size=8))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 75, 75, 3), dtype=np.uint8)
    embeddings = model(
        pixels, training=True
    )  # untrained, MobileNetV3 without statistics shrinks features to 1e-6
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)


def test_a_cut_backbone_ends_behind_the_named_layer():
    options = ModelOptions(feature_layer="mixed7", pooling="flatten", embedding_size=8)
    assert encoder.build_encoder(options).get_layer("backbone").output_shape == (None, 3, 3, 768)


def test_conv8_makes_64_pixels_a_map_of_4_by_4_and_is_cut_behind_a_stage():
    options = ModelOptions(backbone="conv8", image_size=64, embedding_size=8)
    assert encoder.build_encoder(options).get_layer("backbone").output_shape == (None, 4, 4, 256)
    cut = encoder.build_encoder(dataclasses.replace(options, feature_layer="stage3"))
    assert cut.get_layer("backbone").output_shape == (None, 8, 8, 128)


@pytest.mark.parametrize(
    ("backbone", "layer"),
    [("efficientnet_v2_b0", "block4c_add"), slow_case("mobilenet_v3", "expanded_conv_9/Add")],
)
def test_a_light_backbone_is_cut_too_and_has_no_randomness_of_its_own(backbone, layer):
    model = encoder.build_encoder(
        ModelOptions(backbone=backbone, feature_layer=layer, image_size=64, embedding_size=8)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(model(pixels, training=True), model(pixels, training=True))


def test_efficientnet_s_pixels_are_what_keras_s_own_preprocessing_makes():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    whole = tf_keras.applications.EfficientNetV2B0(
        include_top=False, weights=None, input_shape=(64, 64, 3)
    )
    ours = backbones.normalise_pixels("efficientnet_v2_b0", tf.constant(pixels))
    first = next(layer for layer in whole.layers if isinstance(layer, tf_keras.layers.Conv2D))
    theirs = tf_keras.Model(whole.input, first.input)(pixels)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_an_unknown_layer_is_refused_with_those_there_are():
    with pytest.raises(
        UserError, match="feature_layer=mixed99 is no layer of inception_v3.*mixed7"
    ):
        encoder.build_encoder(ModelOptions(feature_layer="mixed99"))
    with pytest.raises(UserError, match="mixed7 is no layer of tiny; among them are .*, "):
        encoder.build_encoder(dataclasses.replace(TINY, feature_layer="mixed7"))


def test_an_image_too_small_for_the_backbone_is_refused():
    with pytest.raises(UserError, match="inception_v3 at 32 pixels"):
        encoder.build_encoder(ModelOptions(image_size=32))


def test_every_batch_norm_has_the_asked_momentum_and_synchronisation():
    model = encoder.build_encoder(
        dataclasses.replace(TINY, batch_norm_momentum=0.7), sync_batch_norm=True
    )
    layers = [
        layer
        for layer in model.get_layer("backbone").layers
        if isinstance(layer, tf_keras.layers.BatchNormalization)
    ]
    assert layers and all(layer.momentum == 0.7 and layer.synchronized for layer in layers)


def test_a_frozen_backbone_keeps_its_weights_and_statistics_in_training():
    model = encoder.build_encoder(TINY)
    encoder.freeze_backbone(model)
    before = [weight.numpy() for weight in model.get_layer("backbone").weights]
    model(PIXELS, training=True)
    assert [weight.name for weight in model.trainable_variables] == ["embedding/kernel:0"]
    for weight, old in zip(model.get_layer("backbone").weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)
