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
    image = _decode(encoded)
    height, width, _ = _thread.shape = image.shape
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


def _decode(encoded: bytes) -> np.ndarray:
    """The pixels, in this thread's own memory: new memory for each image would cost page faults."""
    try:
        return simplejpeg.decode_jpeg(encoded, "RGB", buffer=_thread.pixels)
    except (AttributeError, ValueError):  # no memory yet, or too little; or no JPEG, which is then refused again
        height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
        _thread.pixels = bytearray(max(height * width * CHANNELS, _FIRST_BYTES))
        return simplejpeg.decode_jpeg(encoded, "RGB", buffer=_thread.pixels)


@functools.lru_cache(maxsize=1024)  # sizes are few, and it takes as long as a hundredth of a decode
def centre_window(height: int, width: int, crop_fraction: float) -> tuple[int, int, int]:
    """(top, left, side) of the centre square of an image; the same arithmetic as in the graph, in float32."""
    side = max(1, int(np.rint(np.float32(min(height, width)) * np.float32(crop_fraction))))
    return (height - side) // 2, (width - side) // 2, side
