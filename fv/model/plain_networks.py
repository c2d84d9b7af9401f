"""Backbones of our own: plain convolutions with BatchNorm, for faces of 32 to 128 pixels from scratch, and for tests."""

import tensorflow as tf
import tf_keras

from fv.errors import UserError

_CONV8_WIDTHS = (32, 64, 128, 256)
_TINY_WIDTHS = (16, 32, 64)


def conv8(
    include_top: bool, weights: str | None, input_shape: tuple[int, int, int]
) -> tf_keras.Model:
    """Eight 3 × 3 convolutions of 32 to 256 channels, the side halved behind every second one: 64 pixels become 4 × 4.

    0.2 G multiplications for an image of 64 pixels, 1.2 M weights. Layers 'stage1' to 'stage4' are what a stage gives.

    Raises:
      UserError: ImageNet weights are asked for.
    """
    del include_top
    _refuse(weights, "conv8")
    images = features = tf_keras.Input(input_shape)
    for stage, width in enumerate(_CONV8_WIDTHS, start=1):
        features = _convolve(_convolve(features, width), width)
        features = tf_keras.layers.MaxPooling2D(name=f"stage{stage}")(features)
    return tf_keras.Model(images, features)


def tiny(
    include_top: bool, weights: str | None, input_shape: tuple[int, int, int]
) -> tf_keras.Model:
    """Three strided convolutions: for tests of everything but the backbone itself.

    Raises:
      UserError: ImageNet weights are asked for.
    """
    del include_top
    _refuse(weights, "tiny")
    images = features = tf_keras.Input(input_shape)
    for width in _TINY_WIDTHS:
        features = _convolve(features, width, strides=2)
    return tf_keras.Model(images, features)


def _convolve(features: tf.Tensor, width: int, strides: int = 1) -> tf.Tensor:
    features = tf_keras.layers.Conv2D(width, 3, strides=strides, padding="same", use_bias=False)(
        features
    )
    return tf_keras.layers.ReLU()(tf_keras.layers.BatchNormalization()(features))


def _refuse(weights: str | None, name: str) -> None:
    if weights:
        raise UserError(
            f"--backbone={name} has no ImageNet weights: give --init_weights=none or a path"
        )
