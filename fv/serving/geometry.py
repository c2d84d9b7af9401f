"""Decoded pixels → the network's input: the crop and resize of `fv.preprocess`, and what large images need before them."""

import tensorflow as tf

from fv import preprocess

AREA_RATIO = 4  # of an image that is too large, its crop's side over the network's, after area averages


def to_input(image: tf.Tensor, image_size: int, crop_fraction: float, antialias_from: float) -> tf.Tensor:
    """Crops the centre square of an image and resizes it as in training.

    A square of `antialias_from` times the network's side or more is brought to 4 times that side by area averages first:
    bilinear interpolation alone reads four pixels for each it makes, so of a large photograph it would see noise.

    Args:
      image: uint8 [height, width, 3].
      image_size: side of the result in pixels.
      crop_fraction: side of the centre square over the image's shorter side, in (0, 1].
      antialias_from: side of the square over `image_size`.

    Returns:
      uint8 [image_size, image_size, 3].
    """
    top, left, height, width = tf.unstack(preprocess.centre_square(tf.shape(image), crop_fraction))
    square = image[top : top + height, left : left + width]
    side = AREA_RATIO * image_size
    return tf.cond(
        is_large(height, image_size, antialias_from),
        lambda: preprocess.resize(tf.image.resize(square, (side, side), method="area"), image_size),
        lambda: preprocess.resize(square, image_size),
    )


def is_large(side: tf.Tensor, image_size: int, antialias_from: float) -> tf.Tensor:
    """Whether a square of that side, in pixels, is averaged before it is resized."""
    return tf.cast(side, tf.float32) >= antialias_from * image_size


def crop_side(shape: tf.Tensor, crop_fraction: float) -> tf.Tensor:
    """Side of the centre square of an image of int32 `shape` [height, width, …]."""
    return preprocess.centre_square(shape, crop_fraction)[2]
