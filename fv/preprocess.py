"""Encoded image → pixels: the one way that training, evaluation and the exported graph share, so they cannot drift apart.

Everything here is TensorFlow ops on one image, for `tf.data` maps and exported graphs alike.
"""

import tensorflow as tf

CHANNELS = 3
_JPEG_MAGIC = b"\xff\xd8\xff"
_DCT = "INTEGER_ACCURATE"  # bit-exact with Pillow and simplejpeg; TensorFlow's default is a fast, inexact DCT


def load_jpeg(encoded: tf.Tensor, image_size: int, crop_fraction: float) -> tf.Tensor:
    """Decodes a JPEG, crops its centre square and resizes it.

    Args:
      encoded: scalar string, the bytes of a JPEG.
      image_size: side of the result in pixels.
      crop_fraction: side of the centre square over the image's shorter side, in (0, 1]. Only the square is decoded.

    Returns:
      uint8 [image_size, image_size, 3], RGB.
    """
    window = _centre_square(tf.io.extract_jpeg_shape(encoded), crop_fraction)
    image = tf.io.decode_and_crop_jpeg(encoded, window, channels=CHANNELS, dct_method=_DCT)
    return _resize(image, image_size)


def load_image(encoded: tf.Tensor, image_size: int, crop_fraction: float) -> tf.Tensor:
    """As `load_jpeg`, for JPEG, PNG, BMP and the first frame of a GIF.

    The op raises InvalidArgumentError for what is none of these.
    """
    return tf.cond(
        tf.strings.substr(encoded, 0, len(_JPEG_MAGIC)) == _JPEG_MAGIC,
        lambda: load_jpeg(encoded, image_size, crop_fraction),
        lambda: _load_other(encoded, image_size, crop_fraction),
    )


def _load_other(encoded: tf.Tensor, image_size: int, crop_fraction: float) -> tf.Tensor:
    image = tf.io.decode_image(encoded, channels=CHANNELS, expand_animations=False)
    top, left, height, width = tf.unstack(_centre_square(tf.shape(image), crop_fraction))
    return _resize(image[top : top + height, left : left + width], image_size)


def _centre_square(shape: tf.Tensor, crop_fraction: float) -> tf.Tensor:
    """The window int32 [top, left, height, width] of the centre square of an image of int32 `shape` [height, width, …]."""
    height, width = shape[0], shape[1]
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.maximum(1, tf.cast(tf.round(shorter * crop_fraction), tf.int32))
    return tf.stack([(height - side) // 2, (width - side) // 2, side, side])


def _resize(image: tf.Tensor, image_size: int) -> tf.Tensor:
    resized = tf.image.resize(image, (image_size, image_size), method="bilinear")
    resized = tf.cast(tf.round(resized), tf.uint8)
    resized.set_shape((image_size, image_size, CHANNELS))
    return resized
