"""Of each image, its nearest impostors and its farthest genuine partners: exact, in tiles, the same on every machine.

Embeddings are rounded to integers below 4,096 first. All sums of their products are then integers below 2^24, which float32
holds exactly: whatever order a matrix product adds in, and however it is cut into tiles, gives the same bits. Rounding moves
a cosine by about 1e-4. Equal cosines go to the image of the lower number.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fv import progress

NOBODY = -1

_EXACT = 1 << 12  # float32 holds integers up to its square
_BYTES_PER_CELL = 9  # of a tile: a product, the copy that is partitioned, a mask
_NEVER = -np.inf


class Partners(NamedTuple):
    """The partners of n images, the hardest first.

    Attributes:
      images: int32 [n, count], `NOBODY` where there are no more.
      cosines: float32 [n, count], NaN there.
    """

    images: np.ndarray
    cosines: np.ndarray


class FixedPoint(NamedTuple):
    """Embeddings as integers: `numbers`, float32 [n, d], of length `scale`, up to rounding."""

    numbers: np.ndarray
    scale: float

    @classmethod
    def of(cls, embeddings: np.ndarray) -> "FixedPoint":
        """Rounds unit embeddings, float32 [n, d]."""
        scale = (
            _EXACT - 1.0 - math.sqrt(embeddings.shape[1]) / 2
        )  # rounding makes no vector as long as _EXACT
        return cls(np.rint(embeddings * np.float32(scale)), scale)


def nearest_impostors(
    embeddings: FixedPoint, owners: np.ndarray, count: int, tile_bytes: int
) -> Partners:
    """The images of other people that are most alike to each image.

    Memory beside the embeddings: `tile_bytes`, and 8 bytes for each of n · count partners.

    Args:
      embeddings: of n images, those of one identity in a row.
      owners: int [n], number of the identity of each, ascending.
      count: partners of each image.
      tile_bytes: memory of one tile of similarities.
    """
    numbers, images = embeddings.numbers, len(owners)
    side = _tile_side(tile_bytes)
    found = _nobody(images, count)
    with progress.progress(images, "search", "image") as line:
        for first in range(0, images, side):
            rows = slice(first, min(first + side, images))
            best = _Best(rows.stop - rows.start, count)
            for start in range(0, images, side):
                products = numbers[rows] @ numbers[start : start + side].T
                for row, column in _own_images(owners, rows, start, products.shape[1]):
                    products[row, column] = _NEVER
                best.offer(products, start)
            _keep(found, rows, best, embeddings.scale)
            line.update(rows.stop - rows.start)
    return found


def farthest_genuine(
    embeddings: FixedPoint, owners: np.ndarray, count: int, tile_bytes: int
) -> Partners:
    """The images of the same person that are least alike to each image; arguments and memory as in `nearest_impostors`."""
    numbers, found = embeddings.numbers, _nobody(len(owners), count)
    side = _tile_side(tile_bytes)
    for begin, end in _runs(owners):
        for first in range(begin, end, side) if end - begin > 1 else ():
            rows = slice(first, min(first + side, end))
            best = _Best(rows.stop - rows.start, count)
            for start in range(begin, end, side):
                products = -(numbers[rows] @ numbers[start : min(start + side, end)].T)
                itself = np.arange(max(first, start), min(rows.stop, start + products.shape[1]))
                products[itself - first, itself - start] = _NEVER
                best.offer(products, start)
            _keep(found, rows, best, -embeddings.scale)
    return found


class _Best:
    """The best columns of each of some rows, in order of their values, of all tiles that were offered so far."""

    def __init__(self, rows: int, count: int):
        self.values = np.full((rows, count), _NEVER, np.float32)
        self.columns = np.full((rows, count), NOBODY, np.int32)

    def offer(self, values: np.ndarray, first: int) -> None:
        """Takes in float32 [rows, n], columns `first` and on; tiles come by ascending column, so a tie never displaces."""
        count, width = self.values.shape[1], values.shape[1]
        floor = self.values[:, -1]
        if width > count and np.isneginf(floor).any():
            least = np.partition(values, width - count, axis=1)[:, width - count]
            floor = np.maximum(floor, np.nextafter(least, np.float32(_NEVER)))
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


def _own_images(
    owners: np.ndarray, rows: slice, start: int, width: int
) -> Iterator[tuple[slice, slice]]:
    """Yields (rows, columns) of a tile that belong to the same identity."""
    inside = owners[rows]
    for owner in np.unique(inside[np.isin(inside, owners[start : start + width])]):
        row, column = (
            slice(*np.searchsorted(part, [owner, owner + 1]))
            for part in (inside, owners[start : start + width])
        )
        yield row, column


def _runs(owners: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields where the images of each identity begin and end."""
    edges = np.flatnonzero(np.diff(owners)) + 1
    yield from zip([0, *edges.tolist()], [*edges.tolist(), len(owners)], strict=True)


def _tile_side(tile_bytes: int) -> int:
    return max(1, math.isqrt(tile_bytes // _BYTES_PER_CELL))


def _nobody(images: int, count: int) -> Partners:
    return Partners(
        np.full((images, count), NOBODY, np.int32), np.full((images, count), np.nan, np.float32)
    )


def _keep(found: Partners, rows: slice, best: _Best, scale: float) -> None:
    """Writes the rows' partners; `scale` is negative where the smallest cosine was best."""
    known = best.columns != NOBODY
    found.images[rows] = best.columns
    found.cosines[rows] = np.where(known, best.values * np.sign(scale) / scale**2, np.nan)
