"""Fingerprints of images: a digest of a file's bytes, and a hash of what the picture shows.

The hash of a picture is the signs of its lowest spatial frequencies, so that what changes every frequency a little
(compression, another size, brightness, contrast) changes few bits, and another picture changes half of them. Aligned faces
are no exception: benchmarks/results/duplicates.md has the distances on LFW. What has no detail at all, as a colour gradient, is only
found again where its bytes are equal: compression alone decides most of its bits.

Source: C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, section 3.2.1 (hash by DCT).
"""

import hashlib

import cv2
import numpy as np

BITS = 256
WORDS = BITS // 64
DISTANCE = 12  # bits: 99.5 % of recompressed or resized faces lie within, no two different pictures of LFW below 36

_DIGEST_BYTES = 8
_READ_SIDE, _SIDE = (
    128,
    32,
)  # pixels: sampled to the first, which takes the same time for any image, then averaged to the second
_FREQUENCIES = 20  # along each axis; the BITS lowest lie within
_LEAST = 1.0  # of a coefficient: an even surface gives zero and rounding errors


def digest(data: bytes) -> int:
    """The first 64 bits of the SHA-256 of a file's bytes; equal for equal files, and by chance for none."""
    return int.from_bytes(hashlib.sha256(data).digest()[:_DIGEST_BYTES], "big")


def perceptual_hash(grey: np.ndarray) -> np.ndarray:
    """A hash of what a picture shows; the distance of two is the number of bits in which they differ.

    Args:
      grey: luma, uint8 [height, width], of any size.

    Returns:
      uint64 [WORDS].
    """
    sampled = cv2.resize(grey, (_READ_SIDE, _READ_SIDE), interpolation=cv2.INTER_LINEAR)
    small = cv2.resize(sampled, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    spectrum = _BASIS @ small @ _BASIS.T
    return np.packbits(spectrum.ravel()[_ORDER] > _LEAST).view(np.uint64)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Bits in which hashes differ.

    Args:
      a, b: uint64 [..., WORDS].

    Returns:
      int64 [...].
    """
    return np.bitwise_count(a ^ b).sum(axis=-1, dtype=np.int64)


def _basis() -> np.ndarray:
    """The lowest frequencies of the discrete cosine transform, float32 [_FREQUENCIES, _SIDE]."""
    frequency, place = np.mgrid[:_FREQUENCIES, :_SIDE]
    return np.cos(np.pi * frequency * (2 * place + 1) / (2 * _SIDE)).astype(np.float32)


def _order() -> np.ndarray:
    """Which coefficients are taken, the mean left out, so mixed that any run of bits has low and high frequencies."""
    y, x = np.mgrid[:_FREQUENCIES, :_FREQUENCIES]
    lowest = np.argsort((y**2 + x**2).ravel(), kind="stable")[1 : BITS + 1]
    return lowest[np.arange(BITS) * 101 % BITS]


_BASIS, _ORDER = _basis(), _order()
