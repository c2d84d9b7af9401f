"""`preprocess.load_jpeg` in simplejpeg and OpenCV: faster, and without TensorFlow.

The decoded pixels are equal bit for bit, the resized ones to within one level of 255.
"""

import threading

import cv2
import numpy as np
import simplejpeg

CHANNELS = 3
AVERAGED_FROM = 2  # side of a square over the result's from which on area averages make it smaller
_FIRST_BYTES = (
    1 << 20
)  # of a loader's memory for pixels: 590 × 590 of them; it grows with the images

cv2.setNumThreads(
    0
)  # one image is no work to share; its pool would fight with whatever else decodes


class Loader:
    """Loads images one after the other, with memory that it keeps: new memory for each would cost page faults."""

    def __init__(self):
        self._pixels = bytearray(_FIRST_BYTES)
        self._shape = self._crop_fraction = self._window = (
            None  # of the image before: the next is most likely alike
        )

    def load(self, encoded: bytes, crop_fraction: float, result: np.ndarray) -> None:
        """As `load_jpeg`; not for several threads at once."""
        in_place = self._shape == result.shape and crop_fraction == 1.0
        image = _decode_over(encoded, result) if in_place else self._decode(encoded)
        if image is result:
            return
        if image is None:
            image = self._decode(encoded)
        if image.shape != self._shape or crop_fraction != self._crop_fraction:
            self._look_at(image.shape, crop_fraction)
        window = image[self._window]
        if window.shape == result.shape:
            result[:] = window
        else:
            averaged = window.shape[0] >= AVERAGED_FROM * result.shape[0]
            cv2.resize(
                window,
                result.shape[:2],
                result,
                interpolation=cv2.INTER_AREA if averaged else cv2.INTER_LINEAR,
            )

    def _decode(self, encoded: bytes) -> np.ndarray:
        try:
            return simplejpeg.decode_jpeg(encoded, "RGB", buffer=self._pixels)
        except ValueError:  # too little memory; or no JPEG, which is then refused again
            height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
            self._pixels = bytearray(max(height * width * CHANNELS, _FIRST_BYTES))
            return simplejpeg.decode_jpeg(encoded, "RGB", buffer=self._pixels)

    def _look_at(self, shape: tuple[int, int, int], crop_fraction: float) -> None:
        self._shape, self._crop_fraction = shape, crop_fraction
        top, left, side = centre_window(*shape[:2], crop_fraction)
        self._window = slice(top, top + side), slice(left, left + side)


class _ThreadsLoader(threading.local):
    def __init__(self):
        self.loader = Loader()


_of_thread = _ThreadsLoader()


def load_jpeg(encoded: bytes, crop_fraction: float, result: np.ndarray) -> None:
    """Decodes a JPEG, crops its centre square and resizes it; the interpreter's lock is free meanwhile.

    Args:
      encoded: the bytes of a JPEG.
      crop_fraction: side of the centre square over the image's shorter side, in (0, 1].
      result: uint8 [image_size, image_size, 3], RGB, which is written.

    Raises:
      ValueError: simplejpeg refuses it; TensorFlow's decoder may yet take it.
    """
    _of_thread.loader.load(encoded, crop_fraction, result)


def centre_window(height: int, width: int, crop_fraction: float) -> tuple[int, int, int]:
    """(top, left, side) of the centre square of an image; the same arithmetic as in the graph, in float32."""
    side = max(1, int(np.rint(np.float32(min(height, width)) * np.float32(crop_fraction))))
    return (height - side) // 2, (width - side) // 2, side


def _decode_over(encoded: bytes, result: np.ndarray) -> np.ndarray | None:
    """Decodes into `result` and returns it; of a smaller image returns a copy, of a larger or a broken one None."""
    try:
        image = simplejpeg.decode_jpeg(encoded, "RGB", buffer=result)
    except ValueError:
        return None
    return result if image.shape == result.shape else image.copy()
