"""`preprocess.load_jpeg` in simplejpeg and OpenCV: faster, and without TensorFlow.

The decoded pixels are equal bit for bit, the resized ones to within one level of 255.
"""

import functools
import threading

import cv2
import numpy as np
import simplejpeg

CHANNELS = 3
_FIRST_BYTES = 1 << 20  # of a thread's memory for pixels: 590 × 590 of them; it grows with the images

_thread = threading.local()
cv2.setNumThreads(0)  # one image is no work to share; its pool would fight with whatever else decodes


def load_jpeg(encoded: bytes, crop_fraction: float, result: np.ndarray) -> None:
    """Decodes a JPEG, crops its centre square and resizes it; the interpreter's lock is free meanwhile.

    Args:
      encoded: the bytes of a JPEG.
      crop_fraction: side of the centre square over the image's shorter side, in (0, 1].
      result: uint8 [image_size, image_size, 3], RGB, which is written.

    Raises:
      ValueError: simplejpeg refuses it; TensorFlow's decoder may yet take it.
    """
    if crop_fraction == 1.0 and getattr(_thread, "shape", None) == result.shape and _fits(encoded, result):
        return
    height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
    image = simplejpeg.decode_jpeg(encoded, "RGB", buffer=_thread_memory(height * width * CHANNELS))
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


def _thread_memory(size: int) -> bytearray:
    """This thread's own memory, `size` bytes or more, for its next image: new memory for each would cost page faults."""
    if len(getattr(_thread, "pixels", b"")) < size:
        _thread.pixels = bytearray(max(size, _FIRST_BYTES))
    return _thread.pixels
