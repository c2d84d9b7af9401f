import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv.model import siamese
from fv.model.options import BACKBONES, ModelOptions
from fv.serving import folding

FAST = ("tiny", "conv8")


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES],
)
def test_a_folded_encoder_embeds_as_the_trained_one(name):
    encoder = siamese.build_encoder(ModelOptions(backbone=name, image_size=75))
    rng = np.random.default_rng(0)
    for layer in _norms(encoder):
        # A new layer's statistics, 0 and 1, would hide a mistake.
        for weight in layer.weights:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    pixels = rng.integers(0, 256, (3, 75, 75, 3), dtype=np.uint8)
    folded = folding.fold_batch_norm(encoder)
    wanted = encoder(pixels, training=False).numpy()
    (found,) = folding.freeze(folded)(tf.constant(pixels))
    assert not _norms(folded)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


def test_a_batch_norm_is_kept_where_others_read_the_convolution():
    images = tf_keras.Input((8, 8, 3))
    features = tf_keras.layers.Conv2D(4, 3)(images)
    normalised = tf_keras.layers.BatchNormalization()(features)
    network = tf_keras.Model(images, tf_keras.layers.Add()([features, normalised]))
    assert not folding._find_foldable(network)


def _norms(encoder: tf_keras.Model) -> list[tf_keras.layers.Layer]:
    layers = encoder.get_layer("backbone").layers
    return [layer for layer in layers if isinstance(layer, tf_keras.layers.BatchNormalization)]
