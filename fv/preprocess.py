"""Encoded image → pixels: the one way that training, evaluation and the exported graph share, so they cannot drift apart.

`load_jpeg` is TensorFlow ops on one image, for `tf.data` maps and exported graphs alike; `preprocess_on_host` is the same in
simplejpeg and OpenCV, and `load_on_host` that with TensorFlow's word on what it refuses.
"""

import numpy as np
import tensorflow as tf

from fv import preprocess_on_host

CHANNELS = preprocess_on_host.CHANNELS
RESIZE_TOLERANCE = 1  # levels of 255 by which the two resizes may differ: OpenCV's weights have 11 bits
AVERAGED_FROM = preprocess_on_host.AVERAGED_FROM
DCT = "INTEGER_ACCURATE"  # bit-exact with Pillow and simplejpeg; TensorFlow's default is a fast, inexact DCT
_MARGIN = 1  # pixels around a crop: at its own edge libjpeg has no neighbour to interpolate colour from, up to 32 levels off


def load_jpeg(encoded: tf.Tensor, image_size: int, crop_fraction: float) -> tf.Tensor:
    """Decodes a JPEG, crops its centre square and resizes it.

    Args:
      encoded: scalar string, the bytes of a JPEG.
      image_size: side of the result in pixels.
      crop_fraction: side of the centre square over the image's shorter side, in (0, 1]. No more than the square, and a
        pixel around it, is decoded.

    Returns:
      uint8 [image_size, image_size, 3], RGB.
    """
    shape = tf.io.extract_jpeg_shape(encoded)
    top, left, height, width = tf.unstack(centre_square(shape, crop_fraction))
    above, before = tf.minimum(top, _MARGIN), tf.minimum(left, _MARGIN)
    window = (top - above, left - before, _MARGIN + above + height, _MARGIN + before + width)
    window = tf.minimum(window, (shape[0], shape[1], shape[0] - window[0], shape[1] - window[1]))
    image = tf.io.decode_and_crop_jpeg(encoded, window, channels=CHANNELS, dct_method=DCT)
    return resize(image[above : above + height, before : before + width], image_size)


def load_on_host(encoded: bytes, crop_fraction: float, result: np.ndarray) -> None:
    """As `load_jpeg`, by `preprocess_on_host` wherever that decodes the image.

    Args:
      encoded: the bytes of a JPEG.
      crop_fraction: as in `load_jpeg`.
      result: uint8 [image_size, image_size, 3], which is written.

    Raises:
      tf.errors.InvalidArgumentError: no whole JPEG; where simplejpeg refuses one, TensorFlow's decoder has the last word.
    """
    try:
        preprocess_on_host.load_jpeg(encoded, crop_fraction, result)
    except ValueError:
        result[:] = load_jpeg(tf.constant(encoded), result.shape[0], crop_fraction).numpy()


def to_input(image: tf.Tensor, image_size: int, crop_fraction: float) -> tf.Tensor:
    """Crops the centre square of decoded pixels and resizes it.

    Args:
      image: uint8 [height, width, 3].
      image_size: side of the result in pixels.
      crop_fraction: side of the centre square over the image's shorter side, in (0, 1].

    Returns:
      uint8 [image_size, image_size, 3].
    """
    top, left, height, width = tf.unstack(centre_square(tf.shape(image), crop_fraction))
    return resize(image[top : top + height, left : left + width], image_size)


def centre_square(shape: tf.Tensor, crop_fraction: float) -> tf.Tensor:
    """The window int32 [top, left, height, width] of the centre square of an image of int32 `shape` [height, width, …]."""
    height, width = shape[0], shape[1]
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.maximum(1, tf.cast(tf.round(shorter * crop_fraction), tf.int32))
    return tf.stack([(height - side) // 2, (width - side) // 2, side, side])


def resize(square: tf.Tensor, image_size: int) -> tf.Tensor:
    """Resizes a square, uint8 [side, side, 3], to uint8 [image_size, image_size, 3].

    To half its side or less by exact area averages, else bilinearly: that reads four pixels for each it makes, which are not
    all of them from there on. At just half both are the same.
    """
    resized = tf.cond(
        tf.shape(square)[0] >= AVERAGED_FROM * image_size,
        lambda: tf.image.resize(square, (image_size, image_size), method="area"),
        lambda: tf.image.resize(square, (image_size, image_size), method="bilinear"),
    )
    resized = tf.cast(tf.round(resized), tf.uint8)
    resized.set_shape((image_size, image_size, CHANNELS))
    return resized
