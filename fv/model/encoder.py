"""The encoder: pixels → unit embeddings, around a backbone."""

import contextlib

import numpy as np
import tensorflow as tf
import tf_keras

from fv import preprocess
from fv.model import backbones
from fv.model.dropout import StatelessDropout
from fv.model.options import ModelOptions

EMBEDDING = "embedding"  # layer whose weights, without a bias, give the embeddings before they get unit length


def build_encoder(options: ModelOptions, *, sync_batch_norm: bool = False) -> tf_keras.Model:
    """Builds the encoder.

    Args:
      options: backbone, sizes, pooling, dropout.
      sync_batch_norm: normalise by the statistics of all replicas' images together.

    Returns:
      A model from uint8 or float [n, image_size, image_size, 3], values 0 to 255, to float32 [n, embedding_size] of unit
      length, whatever the precision policy. Its layer 'backbone' can be frozen.

    Raises:
      UserError: sizes or layer do not fit the backbone.
    """
    shape = (options.image_size, options.image_size, preprocess.CHANNELS)
    images = tf_keras.Input(shape, dtype=tf.float32, name="images")
    backbone = backbones.build(options, shape, sync_batch_norm=sync_batch_norm)
    features = _pool(backbone(backbones.normalise(options.backbone, images)), options.pooling)
    if options.dropout:
        features = StatelessDropout(options.dropout, name="dropout")(features)
    embeddings = tf_keras.layers.Dense(options.embedding_size, use_bias=False, name=EMBEDDING)(
        features
    )
    embeddings = tf_keras.layers.UnitNormalization(dtype="float32", name="unit_length")(embeddings)
    return tf_keras.Model(images, embeddings, name="encoder")


def freeze_backbone(encoder: tf_keras.Model) -> None:
    """Keeps the backbone's weights and BatchNorm statistics as they are in training."""
    encoder.get_layer(backbones.NAME).trainable = False


def seeded_dropout(
    encoder: tf_keras.Model, seed: tf.Tensor, first_row: tf.Tensor
) -> contextlib.AbstractContextManager:
    """While it lasts, training calls in this thread drop features as `StatelessDropout.seeded` says."""
    found = [layer for layer in encoder.layers if isinstance(layer, StatelessDropout)]
    return found[0].seeded(seed, first_row) if found else contextlib.nullcontext()


def turn(encoder: tf_keras.Model, matrix: np.ndarray) -> None:
    """Makes the encoder's embeddings those of before times `matrix`, float [embedding_size, embedding_size], at unit length.

    The layer of embeddings has no bias, and what follows it keeps their direction alone: so its weights take the matrix.
    """
    layer = encoder.get_layer(EMBEDDING)
    layer.kernel.assign(layer.kernel.numpy() @ np.asarray(matrix, np.float32))


def _pool(features: tf.Tensor, pooling: str) -> tf.Tensor:
    if pooling == "flatten":
        return tf_keras.layers.Flatten(name="pool")(features)
    return tf_keras.layers.GlobalAveragePooling2D(name="pool")(features)
