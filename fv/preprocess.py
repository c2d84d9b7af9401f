"""Encoded image → pixels: the one way that training, evaluation and the exported graph share, so they cannot drift apart.

`load_jpeg` is TensorFlow ops on one image, for `tf.data` maps and exported graphs alike. `load_on_host` is the same in
simplejpeg and OpenCV, faster: the decoded pixels are equal bit for bit, the resized ones to within one level.
"""

import functools
import threading

import cv2
import numpy as np
import simplejpeg
import tensorflow as tf

CHANNELS = 3
RESIZE_TOLERANCE = 1  # levels of 255 by which the two resizes may differ: OpenCV's weights have 11 bits
DCT = "INTEGER_ACCURATE"  # bit-exact with Pillow and simplejpeg; TensorFlow's default is a fast, inexact DCT
_MARGIN = 1  # pixels around a crop: at its own edge libjpeg has no neighbour to interpolate colour from, up to 32 levels off
_FIRST_BYTES = 1 << 20  # of a thread's memory for pixels: 590 × 590 of them; it grows with the images

_thread = threading.local()
cv2.setNumThreads(0)  # one image is no work to share; its pool would fight with the threads that decode


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
    """As `load_jpeg`, outside TensorFlow; the interpreter's lock is free while it decodes and resizes.

    Args:
      encoded: the bytes of a JPEG.
      crop_fraction: as in `load_jpeg`.
      result: uint8 [image_size, image_size, 3], which is written.

    Raises:
      tf.errors.InvalidArgumentError: no whole JPEG; where simplejpeg refuses one, TensorFlow's decoder has the last word.
    """
    if crop_fraction == 1.0 and getattr(_thread, "shape", None) == result.shape and _fits(encoded, result):
        return
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
        image = simplejpeg.decode_jpeg(encoded, "RGB", buffer=_thread_memory(height * width * CHANNELS))
    except ValueError:
        result[:] = load_jpeg(tf.constant(encoded), result.shape[0], crop_fraction).numpy()
        return
    _thread.shape = image.shape
    top, left, side = centre_window(height, width, crop_fraction)
    window = image[top : top + side, left : left + side]
    if side == result.shape[0]:
        result[:] = window
    else:
        cv2.resize(window, result.shape[:2], dst=result, interpolation=cv2.INTER_LINEAR)


def _fits(encoded: bytes, result: np.ndarray) -> bool:
    """Decodes into the result, as when the image before it was as large as that; False where this one is not."""
    try:
        return simplejpeg.decode_jpeg(encoded, "RGB", buffer=result).shape == result.shape
    except ValueError:
        return False


@functools.lru_cache(maxsize=1024)  # sizes are few, and it takes as long as a hundredth of a decode
def centre_window(height: int, width: int, crop_fraction: float) -> tuple[int, int, int]:
    """(top, left, side) of the centre square of an image; the same arithmetic as in the graph, in float32."""
    side = max(1, int(np.rint(np.float32(min(height, width)) * np.float32(crop_fraction))))
    return (height - side) // 2, (width - side) // 2, side


def centre_square(shape: tf.Tensor, crop_fraction: float) -> tf.Tensor:
    """The window int32 [top, left, height, width] of the centre square of an image of int32 `shape` [height, width, …]."""
    height, width = shape[0], shape[1]
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.maximum(1, tf.cast(tf.round(shorter * crop_fraction), tf.int32))
    return tf.stack([(height - side) // 2, (width - side) // 2, side, side])


def resize(image: tf.Tensor, image_size: int) -> tf.Tensor:
    """Resizes uint8 or float [height, width, 3], 0 to 255, bilinearly to uint8 [image_size, image_size, 3]."""
    resized = tf.image.resize(image, (image_size, image_size), method="bilinear")
    resized = tf.cast(tf.round(resized), tf.uint8)
    resized.set_shape((image_size, image_size, CHANNELS))
    return resized


def _thread_memory(size: int) -> bytearray:
    """This thread's own memory, `size` bytes or more, for its next image: new memory for each would cost page faults."""
    if len(getattr(_thread, "pixels", b"")) < size:
        _thread.pixels = bytearray(max(size, _FIRST_BYTES))
    return _thread.pixels
