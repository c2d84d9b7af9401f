"""TensorFlow ops from an encoded image to pixels, for training, evaluation and exported graphs.

`load_on_host` does the same with `fv.jpeg_loader`, and leaves to TensorFlow what that refuses.
"""

import numpy as np
import tensorflow as tf

from fv import alignment, jpeg_loader
from fv.jpeg_loader import AVERAGED_FROM, CHANNELS
from fv.preprocessing import Preprocessing

# Bit-exact with Pillow and simplejpeg; TensorFlow's default is a fast, inexact DCT.
DCT = "INTEGER_ACCURATE"
# Pixels decoded around a crop: at its own edge libjpeg has no neighbour to interpolate colour from,
# and is up to 32 levels off.
_MARGIN = 1


def jpeg_to_input(
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
    """As `jpeg_to_input`, in simplejpeg and OpenCV wherever these decode the image.

    Args:
      encoded: the bytes of a JPEG.
      crop_fraction: as in `jpeg_to_input`.
      result: uint8 [image_size, image_size, 3], which is written.

    Raises:
      tf.errors.InvalidArgumentError: TensorFlow's decoder refuses the image, too.
    """
    try:
        jpeg_loader.load_into(encoded, crop_fraction, result)
    except ValueError:
        result[:] = jpeg_to_input(tf.constant(encoded), result.shape[0], crop_fraction).numpy()


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
      preprocessing: as in `jpeg_to_input`.

    Returns:
      uint8 [image_size, image_size, 3].
    """
    if preprocessing and preprocessing.store_size:
        image = store(image, preprocessing)
    top, left, height, width = tf.unstack(centre_square(tf.shape(image), crop_fraction))
    return resize(image[top : top + height, left : left + width], image_size)


def store(image: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Repeats on a whole image what the converter did to the training images.

    The window and its size are those of `fv.conversion.storage`. Averages differ from OpenCV's by
    at most one level. The image is encoded and decoded as JPEG as there, which halves the
    resolution of colour; libjpeg's slow DCT encodes it here, its fast one there: within a few
    levels.

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


def align(image: tf.Tensor, points: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Aligns a face and stores it as the converter did, in memory that the image bounds.

    Args:
      image: uint8 [height, width, 3], upright.
      points: float32 [5, 2], finite and different.
      preprocessing: what the converter did, with an `alignment`.

    Returns:
      uint8 [store_size, store_size, 3].
    """
    assert preprocessing.alignment is not None and preprocessing.store_size is not None
    side = preprocessing.store_size
    matrix = _similarity(points, preprocessing.alignment.target(side))
    return _compress(warp(image, matrix, side), preprocessing)


def warp(image: tf.Tensor, matrix: tf.Tensor, side: int) -> tf.Tensor:
    """`fv.alignment.warp` in a graph: uint8 [height, width, 3] to uint8 [side, side, 3]."""
    turn, shift = matrix[:, :2], matrix[:, 2]
    shrink = 1.0 / tf.norm(turn[:, 0])
    block = tf.maximum(1, tf.cast(shrink * 2 / alignment.BLOCKS_FROM, tf.int32))
    samples = tf.cast(tf.math.ceil(shrink / tf.cast(block, tf.float64) - 1e-3), tf.int32)
    samples = tf.maximum(1, samples)
    # The blocks that the square reaches, and a little more.
    corners = tf.constant([[-1, -1], [side, -1], [-1, side], [side, side]], tf.float64)
    found = tf.linalg.matmul(corners - shift, tf.linalg.inv(turn), transpose_b=True)
    size, pitch = tf.shape(image)[1::-1] // block, tf.cast(block, tf.float64)
    most = tf.cast(size, tf.float64)
    first = tf.clip_by_value(tf.floor(tf.reduce_min(found, axis=0) / pitch) - 1, 0, most)
    last = tf.clip_by_value(tf.math.ceil(tf.reduce_max(found, axis=0) / pitch) + 1, 0, most)
    # One block at least: resizing takes no empty image. It lies out of the square's reach.
    first = tf.minimum(first, tf.maximum(most - 1, 0))
    last = tf.maximum(last, first + 1)
    left, top = tf.unstack(tf.cast(first, tf.int32) * block)
    across, down = tf.unstack(tf.cast(last - first, tf.int32))
    part = image[top : top + down * block, left : left + across * block]
    part = tf.round(tf.image.resize(part, (down, across), method="area"))
    shift += tf.linalg.matvec(turn, first * pitch + (pitch - 1) / 2)
    # From samples to blocks: the inverse, which the op takes row by row.
    fine = tf.cast(samples, tf.float64)
    back = tf.linalg.inv(turn * pitch * fine)
    start = -tf.linalg.matvec(back, shift * fine + (fine - 1) / 2)
    rows = tf.concat([tf.concat([back, start[:, tf.newaxis]], axis=1), [[0.0, 0.0, 1.0]]], axis=0)
    sampled = tf.raw_ops.ImageProjectiveTransformV3(
        images=part[tf.newaxis],
        transforms=tf.cast(tf.reshape(rows, (1, 9))[:, :8], tf.float32),
        output_shape=tf.stack([side * samples, side * samples]),
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )
    pixels = tf.reshape(sampled, (side, samples, side, samples, CHANNELS))
    return tf.cast(tf.round(tf.reduce_mean(pixels, axis=(1, 3))), tf.uint8)


def _similarity(points: tf.Tensor, target: np.ndarray) -> tf.Tensor:
    """`fv.alignment.estimate_similarity` in a graph: float64 [2, 3]."""
    points = tf.cast(points, tf.float64)
    middle, aim = tf.reduce_mean(points, axis=0), target.mean(axis=0)
    x, y = tf.unstack(points - middle, axis=1)
    u, v = (target - aim).T
    spread = tf.reduce_sum(x * x + y * y)
    cosine = tf.reduce_sum(x * u + y * v) / spread
    sine = tf.reduce_sum(x * v - y * u) / spread
    turn = tf.stack([tf.stack([cosine, -sine]), tf.stack([sine, cosine])])
    return tf.concat([turn, (aim - tf.linalg.matvec(turn, middle))[:, tf.newaxis]], axis=1)


def _stored_window(shape: tf.Tensor, crop_fraction: float | None) -> tf.Tensor:
    """`fv.conversion.storage.crop_window` without a box: int32 [top, left, height, width]."""
    if crop_fraction is None:
        return tf.stack([0, 0, shape[0], shape[1]])
    return centre_square(shape, crop_fraction, tf.float64)


def _shrink(part: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Makes an image smaller, then encodes and decodes it, as the converter did."""
    assert preprocessing.store_size is not None
    return _compress(_average(part, preprocessing.store_size), preprocessing)


def _compress(pixels: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Encodes and decodes an image as JPEG, as the converter did."""
    encoded = tf.io.encode_jpeg(
        pixels, "rgb", quality=preprocessing.jpeg_quality, chroma_downsampling=True
    )
    return tf.io.decode_jpeg(encoded, channels=CHANNELS, dct_method=DCT)


def _average(image: tf.Tensor, store_size: int) -> tf.Tensor:
    """Makes the shorter side `store_size` by exact area averages; keeps a smaller image."""
    sides = tf.shape(image)[:2]
    scale = store_size / tf.cast(tf.reduce_min(sides), tf.float64)
    rounded = tf.cast(tf.round(tf.cast(sides, tf.float64) * scale), tf.int32)
    size = tf.where(scale >= 1.0, sides, tf.maximum(store_size, rounded))
    return tf.cast(tf.round(tf.image.resize(image, size, method="area")), tf.uint8)


def centre_square(shape: tf.Tensor, fraction: float, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """`fv.jpeg_loader.centre_square` in a graph, of an image of int32 `shape` [height, width, …].

    Returns:
      int32 [top, left, height, width].
    """
    height, width = shape[0], shape[1]
    shorter = tf.cast(tf.minimum(height, width), dtype)
    side = tf.maximum(1, tf.cast(tf.round(shorter * fraction), tf.int32))
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
