"""JPEG → pixels with simplejpeg and OpenCV, for all the peers that use them; both let go of the GIL."""

from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg

cv2.setNumThreads(1)  # the peers have threads and processes of their own


def load(encoded: bytes | memoryview, side: int) -> np.ndarray:
    """Decodes a JPEG and makes it `side` pixels wide and high, bilinear: uint8 [side, side, 3], RGB."""
    image = simplejpeg.decode_jpeg(encoded)
    return image if image.shape[:2] == (side, side) else cv2.resize(image, (side, side))


def load_batch(encoded: Sequence[bytes | memoryview], side: int) -> np.ndarray:
    """uint8 [images, side, side, 3], one array from the beginning: nothing is stacked."""
    images = np.empty((len(encoded), side, side, 3), np.uint8)
    for image, data in zip(images, encoded, strict=True):
        pixels = simplejpeg.decode_jpeg(data)
        if pixels.shape == image.shape:
            image[:] = pixels
        else:
            cv2.resize(pixels, (side, side), dst=image)
    return images
