"""Finds the images that are hardest to tell from, or to recognise as, the person of each image.

The search is exact and the same on every machine. Embeddings are rounded to integers below 4,096,
so all sums of their products stay below 2^24, which float32 holds exactly in any order of addition.
Rounding moves a cosine by about 1e-4. Of equal cosines, the image of the lower number comes first.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from fv import progress

NOBODY = -1  # in place of a partner
_TILE_BYTES = 256_000_000  # of similarities that are held at once
_EXACT = 1 << 12  # float32 holds integers up to its square
_BYTES_PER_CELL = 9  # of a tile: a product, the copy that is partitioned, a mask


class FixedPoint(NamedTuple):
    """Embeddings as integers: `numbers`, float32 [n, d], of length `scale` up to rounding."""

    numbers: np.ndarray
    scale: float

    @classmethod
    def of(cls, embeddings: np.ndarray) -> "FixedPoint":
        """Rounds unit embeddings, float32 [n, d]."""
        # Rounding makes no vector as long as _EXACT.
        scale = _EXACT - 1.0 - math.sqrt(embeddings.shape[1]) / 2
        return cls(np.rint(embeddings * np.float32(scale)), scale)


def find_partners(
    embeddings: FixedPoint, owners: np.ndarray, count: int, *, genuine: bool
) -> np.ndarray:
    """Finds the nearest impostors, or the farthest genuine partners, of each image.

    Memory beside the embeddings: 256 MB, and 4 bytes for each of n · count partners.

    Args:
      embeddings: of n images, those of one identity in a row.
      owners: int [n], ascending, the number of each image's identity.
      count: partners of each image.
      genuine: find farthest genuine partners instead of nearest impostors.

    Returns:
      int32 [n, count], the hardest first, `NOBODY` where there are no more.
    """
    numbers, side = embeddings.numbers, max(1, math.isqrt(_TILE_BYTES // _BYTES_PER_CELL))
    found = np.full((len(owners), count), NOBODY, np.int32)
    edges = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(owners)]
    within: Iterable[tuple[int, int]] = itertools.pairwise(edges) if genuine else [(0, len(owners))]
    with progress.Progress(len(owners), "search", "image") as line:
        for begin, end in within:
            for rows in _tiles(begin, end, side):
                best = _Best(rows.stop - rows.start, count)
                for columns in _tiles(begin, end, side):
                    products = numbers[rows] @ numbers[columns].T
                    if genuine:
                        np.negative(products, out=products)
                        _mask_equal(products, np.r_[rows], np.r_[columns])
                    else:
                        _mask_equal(products, owners[rows], owners[columns])
                    best.offer(products, columns.start)
                found[rows] = best.columns
                line.update(rows.stop - rows.start)
    return found


class _Best:
    """The best columns of each row, in order of their values, of all tiles offered so far."""

    def __init__(self, rows: int, count: int):
        self.values = np.full((rows, count), -np.inf, np.float32)
        self.columns = np.full((rows, count), NOBODY, np.int32)

    def offer(self, values: np.ndarray, first: int) -> None:
        """Takes in float32 [rows, n], columns `first` and on.

        Tiles come by ascending column, so a tie never displaces an earlier column.
        """
        count, width = self.values.shape[1], values.shape[1]
        floor = self.values[:, -1]
        if width > count and np.isneginf(floor).any():
            least = np.partition(values, width - count, axis=1)[:, width - count]
            floor = np.maximum(floor, np.nextafter(least, np.float32(-np.inf)))
        rows, columns = np.divmod(np.flatnonzero(values > floor[:, None]), width)
        if len(rows):
            self._merge(rows, columns + first, values[rows, columns])

    def _merge(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
        touched, places = np.unique(rows, return_inverse=True)
        count = self.values.shape[1]
        rows = np.concatenate([np.repeat(np.arange(len(touched)), count), places.reshape(-1)])
        values = np.concatenate([self.values[touched].ravel(), values])
        columns = np.concatenate([self.columns[touched].ravel(), columns])
        order = np.lexsort((columns, -values, rows))
        ends = np.cumsum(np.bincount(rows))
        kept = order[np.concatenate([[0], ends[:-1]])[:, None] + np.arange(count)]
        self.values[touched], self.columns[touched] = values[kept], columns[kept]


def _mask_equal(products: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Excludes the cells whose row and column have equal keys; both are ascending."""
    for key in np.intersect1d(rows, columns):
        row, column = (slice(*np.searchsorted(each, [key, key + 1])) for each in (rows, columns))
        products[row, column] = -np.inf


def _tiles(begin: int, end: int, side: int) -> Iterator[slice]:
    for start in range(begin, end, side):
        yield slice(start, min(start + side, end))
