"""Damaged copies of sound image files."""

from collections.abc import Iterator, Sequence

import numpy as np

_MOST_FLIPS = 16  # changed bytes of a copy
_HEADER_BYTES = 64  # a change does most here
_EXTREMES = (0x00, 0x01, 0x7F, 0x80, 0xFF)


def mutate(images: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yields `count` damaged copies: changed bytes and headers, cuts, holes, repeats, splices."""
    rng = np.random.default_rng(seed)
    changes = (_flip, _flip_header, _cut, _drop, _repeat, _splice)
    for _ in range(count):
        image, other = (images[index] for index in rng.integers(len(images), size=2))
        yield changes[rng.integers(len(changes))](image, other, rng)


def _flip(image: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(image)
    for at in rng.integers(len(image), size=rng.integers(1, _MOST_FLIPS)):
        changed[at] = rng.integers(256)
    return bytes(changed)


def _flip_header(image: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(image)
    for at in rng.integers(min(len(image), _HEADER_BYTES), size=rng.integers(1, _MOST_FLIPS)):
        changed[at] = rng.choice(_EXTREMES)
    return bytes(changed)


def _cut(image: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return image[: rng.integers(len(image))]


def _drop(image: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start, end = np.sort(rng.integers(len(image), size=2))
    return image[:start] + image[end:]


def _repeat(image: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start, end = np.sort(rng.integers(len(image), size=2))
    return image[:end] + image[start:]


def _splice(image: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return image[: rng.integers(len(image))] + other[rng.integers(len(other)) :]
