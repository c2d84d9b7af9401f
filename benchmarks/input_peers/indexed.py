"""The cheapest reader of shards: where each JPEG lies in the file is looked up once, then mapped bytes are cut out."""

import mmap
from collections.abc import Iterator

import numpy as np

from benchmarks.side_by_side.workload import Workload
from fv import record

_HEAD_BYTES = 12  # of a record's frame, before its data


class IndexedShards:
    """Random access to the encoded images of every pair."""

    def __init__(self, work: Workload):
        self._pairs = [pair for path in work.shard_paths() for pair in _index(path)]

    def __len__(self) -> int:
        return len(self._pairs)

    def encoded(self, pair: int) -> tuple[memoryview, memoryview]:
        """The two JPEGs of that pair."""
        return self._pairs[pair]

    def encoded_batch(self, pairs: np.ndarray) -> list[memoryview]:
        """The 2n JPEGs of n pairs, a pair's two beside each other."""
        return [image for pair in pairs for image in self._pairs[pair]]


def shuffled_batches(records: int, batch_size: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Indices int64 [batch_size] of the records of each batch, without end; batches run across the ends of epochs."""
    order, left = np.random.default_rng(seed), np.zeros(0, np.int64)
    while True:
        while len(left) < batch_size:
            left = np.concatenate([left, order.permutation(records)])
        yield left[:batch_size]
        left = left[batch_size:]


def _index(path: str) -> Iterator[tuple[memoryview, memoryview]]:
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for offset, data in record.read_frames(file):
            fields = record.decode_pair(data)
            yield tuple(
                _cut(mapped, offset + _HEAD_BYTES, data, fields[name])
                for name in (record.IMAGE_A, record.IMAGE_B)
            )


def _cut(mapped: mmap.mmap, first: int, data: bytes, image: bytes) -> memoryview:
    start = first + data.index(image)
    return memoryview(mapped)[start : start + len(image)]
