"""Decodes JPEGs to the network's input with simplejpeg and OpenCV, without TensorFlow."""

import threading

import cv2
import numpy as np
import simplejpeg

CHANNELS = 3
AVERAGED_FROM = 2  # ratio of sides from which on area averages make a square smaller
_FIRST_BYTES = 1 << 20  # of a loader's memory for pixels, 590 × 590 of them; grows with the images

# One image is no work to share, and OpenCV's threads would compete with whatever else decodes.
cv2.setNumThreads(0)


class Loader:
    """Loads images one after the other.

    It reuses its memory for pixels: new memory for each image would cost page faults.
    """

    def __init__(self):
        self._pixels = bytearray(_FIRST_BYTES)
        # Of the image before: the next one is most likely like it.
        self._shape: tuple[int, ...] | None = None
        self._crop_fraction: float | None = None
        self._window: tuple[slice, slice] | None = None

    def load(self, encoded: bytes, crop_fraction: float, result: np.ndarray) -> None:
        """As `load_into`; not for several threads at once."""
        in_place = self._shape == result.shape and crop_fraction == 1.0
        image = _decode_over(encoded, result) if in_place else self._decode(encoded)
        if image is result:
            return
        if image is None:
            image = self._decode(encoded)
        if image.shape != self._shape or crop_fraction != self._crop_fraction:
            self._shape, self._crop_fraction = image.shape, crop_fraction
            height, width = image.shape[:2]
            top, left, side = centre_square(height, width, crop_fraction)
            self._window = slice(top, top + side), slice(left, left + side)
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


class _ThreadLoader(threading.local):
    def __init__(self):
        self.loader = Loader()


_thread = _ThreadLoader()


def load_into(encoded: bytes, crop_fraction: float, result: np.ndarray) -> None:
    """`fv.image_ops.jpeg_to_input` in simplejpeg and OpenCV: faster, and without TensorFlow.

    Decoded pixels are equal bit for bit, resized ones to within one level of 255. The interpreter's
    lock is free meanwhile.

    Args:
      encoded: the bytes of a JPEG.
      crop_fraction: side of the centre square over the image's shorter side, in (0, 1].
      result: uint8 [image_size, image_size, 3], RGB, which is written.

    Raises:
      ValueError: simplejpeg refuses it; TensorFlow's decoder may yet take it.
    """
    _thread.loader.load(encoded, crop_fraction, result)


def centre_square(
    height: int, width: int, fraction: float, dtype: type[np.floating] = np.float32
) -> tuple[int, int, int]:
    """The centre square of an image, as `fv.image_ops.centre_square` cuts it in a graph.

    Args:
      height: of the image in pixels.
      width: likewise.
      fraction: side of the square over the shorter side, in (0, 1].
      dtype: in which the side is computed: float32 for what a model sees, float64 for what the
        converter stores.

    Returns:
      top, left, side.
    """
    side = max(1, int(np.rint(dtype(min(height, width)) * dtype(fraction))))
    return (height - side) // 2, (width - side) // 2, side


def _decode_over(encoded: bytes, result: np.ndarray) -> np.ndarray | None:
    """Decodes into `result` and returns it.

    Returns a copy of a smaller image, and None for a larger or a damaged one.
    """
    try:
        image = simplejpeg.decode_jpeg(encoded, "RGB", buffer=result)
    except ValueError:
        return None
    return result if image.shape == result.shape else image.copy()
