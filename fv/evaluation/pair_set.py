"""Labelled pairs of images, wherever they come from: what is scored, and what a threshold is chosen on."""

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np

_HASH_BYTES = 8  # of an image's path
_ODD = np.uint64(0x9E3779B97F4A7C15)  # so that a pair's hash differs where one of its paths does


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """The distinct images of a set of pairs.

    Attributes:
      paths: of each, relative.
      identities: name of the person on each.
      of_identity: int [m], how many images of that person the data holds.
      read: index of an image → the JPEG bytes that a shard holds of it.
    """

    paths: list[str]
    identities: list[str]
    of_identity: np.ndarray
    read: Callable[[int], bytes]


@dataclasses.dataclass(frozen=True, eq=False)
class PairSet:
    """Labelled pairs.

    Attributes:
      name: what the pairs are called.
      images: the images in them.
      first: int [n], index of one image of each pair.
      second: int [n], of the other.
      labels: int [n], 1 for a genuine pair and 0 for an impostor pair.
      folds: int [n], from 0.
      lost: what is said of the pairs that the list has and this set lacks, and of doubtful identities; empty where there
        are none.
    """

    name: str
    images: Images
    first: np.ndarray
    second: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    lost: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def people(self) -> np.ndarray:
        """Numbers of both people of each pair, int64 [n, 2], in the order of their names from 0."""
        numbers = np.unique(np.array(self.images.identities), return_inverse=True)[1].reshape(-1)
        return np.stack([numbers[self.first], numbers[self.second]], axis=1)

    def names(self) -> set[str]:
        """Names of the people in the pairs."""
        return {self.images.identities[image] for image in np.union1d(self.first, self.second)}

    def digest(self) -> str:
        """SHA-256 of all paths and labels, whatever the order of pairs and of images in them; of no image's content."""
        rows = np.column_stack([self._ends(), self.labels.astype(np.uint64)])
        return hashlib.sha256(rows[np.lexsort(rows.T)].tobytes()).hexdigest()

    def keys(self) -> np.ndarray:
        """A number for each pair, uint64 [n]: the same in every set for the same two paths, in whichever order."""
        ends = self._ends()
        return ends[:, 0] * _ODD + ends[:, 1]

    def _ends(self) -> np.ndarray:
        """Hashes of the paths of both images of each pair, uint64 [n, 2], the lower first."""
        hashes = [
            hashlib.blake2b(path.encode(errors="surrogateescape"), digest_size=_HASH_BYTES)
            for path in self.images.paths
        ]
        numbers = np.array([int.from_bytes(each.digest(), "little") for each in hashes], np.uint64)
        return np.sort(numbers[np.stack([self.first, self.second], axis=1)], axis=1)

    def select(self, kept: np.ndarray, lost: str) -> "PairSet":
        """The pairs where bool [n] `kept` is true."""
        columns = {
            name: getattr(self, name)[kept] for name in ("first", "second", "labels", "folds")
        }
        return dataclasses.replace(self, **columns, lost="; ".join(filter(None, (self.lost, lost))))
