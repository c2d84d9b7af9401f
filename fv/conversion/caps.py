"""How often one person and one image may be used, so that nobody with many pictures owns the data set."""

from typing import NamedTuple

import numpy as np


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
        return np.concatenate([self.owner[images], len(self.left) - len(self.owner) + images], axis=-1)

    def of_images(self) -> np.ndarray:
        """For each image, the pairs that it and its identity both allow."""
        identities = len(self.left) - len(self.owner)
        return np.minimum(self.left[:identities][self.owner], self.left[identities:])

    def take(self, images: np.ndarray, times: int = 1) -> None:
        """Counts one pair (or `times`, which may be negative) for each of `images` and its identity."""
        np.subtract.at(self.left, self.slots(images), times)
