"""How often one person and one image may be used, so that nobody with many pictures owns the data set."""

from typing import NamedTuple

import numpy as np

from fv.conversion import ranks

_CANDIDATES_AT_ONCE = 1 << 16  # tried against the caps, so that memory does not grow with them


class Caps(NamedTuple):
    """Most pairs of one label that one identity, and that one image, takes part in."""

    identity: int
    image: int


class Room:
    """What the caps still allow.

    Attributes:
      owner: int64 [images], the identity of each image.
      left: int32, the pairs that each identity, and behind them each image, may still take part in.
    """

    def __init__(self, sizes: np.ndarray, caps: Caps):
        """`sizes` is int64, images of each identity; images are numbered with those of one identity in a row."""
        self.owner = np.repeat(np.arange(len(sizes)), sizes)
        self.left = np.repeat(np.array(caps, np.int32), (len(sizes), len(self.owner)))

    def slots(self, images: np.ndarray) -> np.ndarray:
        """Where in `left` the identities and the images of `images`, int64 [..., n], stand: int64 [..., 2 n]."""
        return np.concatenate(
            [self.owner[images], len(self.left) - len(self.owner) + images], axis=-1
        )

    def of_images(self) -> np.ndarray:
        """For each image, the pairs that it and its identity both allow."""
        identities = len(self.left) - len(self.owner)
        return np.minimum(self.left[:identities][self.owner], self.left[identities:])

    def take(self, images: np.ndarray, times: int = 1) -> None:
        """Counts one pair (or `times`, which may be negative) for each of `images` and its identity."""
        np.subtract.at(self.left, self.slots(images), times)


def take_within_caps(ends: np.ndarray, room: Room, wanted: int) -> np.ndarray:
    """The first of the candidates, int64 [n, 2], that the caps let through, up to `wanted`; takes their room."""
    taken = [ends[:0]]
    for first in range(0, len(ends), _CANDIDATES_AT_ONCE):
        part = ends[first : first + _CANDIDATES_AT_ONCE]
        part = part[_within_caps(room.slots(part), room.left)][:wanted]
        room.take(part)
        taken.append(part)
        wanted -= len(part)
    return np.concatenate(taken)


def _within_caps(slots: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Which candidates, one row of slots each, the caps let through when they come in this order, as a mask."""
    left = left.copy()
    accepted = np.zeros(len(slots), bool)
    live = np.arange(len(slots))
    while len(live):
        places = ranks.occurrences(slots[live].ravel())
        fits = (places < left[slots[live].ravel()]).reshape(len(live), -1).all(axis=1)
        accepted[live[fits]] = True
        np.subtract.at(left, slots[live[fits]], 1)
        live = live[~fits]
        live = live[(left[slots[live]] > 0).all(axis=1)]
    return accepted
