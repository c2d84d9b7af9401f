"""TensorFlow ops from an encoded image to pixels, for training, evaluation and exported graphs.

`load_on_host` does the same with `fv.jpeg_loader`, and leaves to TensorFlow what that refuses.
"""

import numpy as np
import tensorflow as tf

from fv import jpeg_loader
from fv.jpeg_loader import AVERAGED_FROM, CHANNELS
from fv.preprocessing import Preprocessing

# Bit-exact with Pillow and simplejpeg; TensorFlow's default is a fast, inexact DCT.
DCT = "INTEGER_ACCURATE"
# Pixels decoded around a crop: at its own edge libjpeg has no neighbour to interpolate colour from,
# and is up to 32 levels off.
_MARGIN = 1


def load_jpeg(
    encoded: tf.Tensor,
    image_size: int,
    crop_fraction: float,
    preprocessing: Preprocessing | None = None,
) -> tf.Tensor:
    """Decodes a JPEG, crops its centre square and resizes it.

    Args:
      encoded: scalar string, the bytes of a JPEG.
      image_size: side of the result in pixels.
      crop_fraction: side of the centre square over the image's shorter side, in (0, 1]. Only the
        square and a pixel around it are decoded.
      preprocessing: what the converter did to the training images, to be repeated on this one
        first; None for an image from a shard.

    Returns:
      uint8 [image_size, image_size, 3], RGB.
    """
    shape = tf.io.extract_jpeg_shape(encoded)
    if preprocessing and preprocessing.store_size:
        part = _decode_window(encoded, shape, _stored_window(shape, preprocessing.crop_fraction))
        return to_input(_shrink(part, preprocessing), image_size, crop_fraction)
    return resize(_decode_window(encoded, shape, centre_square(shape, crop_fraction)), image_size)


def _decode_window(encoded: tf.Tensor, shape: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """The part of a JPEG in the window [top, left, height, width], uint8 [height, width, 3]."""
    top, left, height, width = tf.unstack(window)
    above, before = tf.minimum(top, _MARGIN), tf.minimum(left, _MARGIN)
    window = (top - above, left - before, _MARGIN + above + height, _MARGIN + before + width)
    window = tf.minimum(window, (shape[0], shape[1], shape[0] - window[0], shape[1] - window[1]))
    image = tf.io.decode_and_crop_jpeg(encoded, window, channels=CHANNELS, dct_method=DCT)
    return image[above : above + height, before : before + width]


def load_on_host(encoded: bytes, crop_fraction: float, result: np.ndarray) -> None:
    """As `load_jpeg`, in simplejpeg and OpenCV wherever these decode the image.

    Args:
      encoded: the bytes of a JPEG.
      crop_fraction: as in `load_jpeg`.
      result: uint8 [image_size, image_size, 3], which is written.

    Raises:
      tf.errors.InvalidArgumentError: TensorFlow's decoder refuses the image, too.
    """
    try:
        jpeg_loader.load_jpeg(encoded, crop_fraction, result)
    except ValueError:
        result[:] = load_jpeg(tf.constant(encoded), result.shape[0], crop_fraction).numpy()


def to_input(
    image: tf.Tensor,
    image_size: int,
    crop_fraction: float,
    preprocessing: Preprocessing | None = None,
) -> tf.Tensor:
    """Crops the centre square of decoded pixels and resizes it.

    Args:
      image: uint8 [height, width, 3], upright.
      image_size: side of the result in pixels.
      crop_fraction: side of the centre square over the image's shorter side, in (0, 1].
      preprocessing: as in `load_jpeg`.

    Returns:
      uint8 [image_size, image_size, 3].
    """
    if preprocessing and preprocessing.store_size:
        image = store(image, preprocessing)
    top, left, height, width = tf.unstack(centre_square(tf.shape(image), crop_fraction))
    return resize(image[top : top + height, left : left + width], image_size)


def store(image: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Repeats on a whole image what the converter did to the training images.

    The window and its size are those of `fv.conversion.images`. Averages differ from OpenCV's by at
    most one level. The image is encoded and decoded as JPEG as there, which halves the resolution
    of colour; libjpeg's slow DCT encodes it here, its fast one there: within a few levels.

    Args:
      image: uint8 [height, width, 3], upright.
      preprocessing: what the converter did, with a `store_size`.

    Returns:
      uint8 [stored height, stored width, 3].
    """
    top, left, height, width = tf.unstack(
        _stored_window(tf.shape(image), preprocessing.crop_fraction)
    )
    return _shrink(image[top : top + height, left : left + width], preprocessing)


def _stored_window(shape: tf.Tensor, crop_fraction: float | None) -> tf.Tensor:
    """`fv.conversion.images.crop_window` without a box: int32 [top, left, height, width].

    In float64, as there.
    """
    height, width = shape[0], shape[1]
    if crop_fraction is None:
        return tf.stack([0, 0, height, width])
    shorter = tf.cast(tf.minimum(height, width), tf.float64)
    side = tf.maximum(1, tf.cast(tf.round(shorter * crop_fraction), tf.int32))
    return tf.stack([(height - side) // 2, (width - side) // 2, side, side])


def _shrink(part: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Makes an image smaller, then encodes and decodes it, as the converter did."""
    assert preprocessing.store_size is not None
    averages = _average(part, preprocessing.store_size)
    encoded = tf.io.encode_jpeg(
        averages, "rgb", quality=preprocessing.jpeg_quality, chroma_downsampling=True
    )
    return tf.io.decode_jpeg(encoded, channels=CHANNELS, dct_method=DCT)


def _average(image: tf.Tensor, store_size: int) -> tf.Tensor:
    """Makes the shorter side `store_size` by exact area averages; keeps a smaller image."""
    sides = tf.shape(image)[:2]
    scale = store_size / tf.cast(tf.reduce_min(sides), tf.float64)
    rounded = tf.cast(tf.round(tf.cast(sides, tf.float64) * scale), tf.int32)
    size = tf.where(scale >= 1.0, sides, tf.maximum(store_size, rounded))
    return tf.cast(tf.round(tf.image.resize(image, size, method="area")), tf.uint8)


def centre_square(shape: tf.Tensor, crop_fraction: float) -> tf.Tensor:
    """The centre square of an image of int32 `shape` [height, width, …].

    Returns:
      int32 [top, left, height, width].
    """
    height, width = shape[0], shape[1]
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.maximum(1, tf.cast(tf.round(shorter * crop_fraction), tf.int32))
    return tf.stack([(height - side) // 2, (width - side) // 2, side, side])


def resize(square: tf.Tensor, image_size: int) -> tf.Tensor:
    """Resizes a square, uint8 [side, side, 3], to uint8 [image_size, image_size, 3].

    To half its side or less by exact area averages, else bilinearly: bilinear sampling reads four
    pixels for each that it makes, and would skip some there. At just half both are the same.
    """
    resized = tf.cond(
        tf.shape(square)[0] >= AVERAGED_FROM * image_size,
        lambda: tf.image.resize(square, (image_size, image_size), method="area"),
        lambda: tf.image.resize(square, (image_size, image_size), method="bilinear"),
    )
    resized = tf.cast(tf.round(resized), tf.uint8)
    resized.set_shape((image_size, image_size, CHANNELS))
    return resized
