"""Which records each input worker reads: contiguous ranges of a split, exact for any number of shards and workers."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from fv.errors import UserError
from fv.manifest import Shard


class Slice(NamedTuple):
    """Records [skip, skip + take) of one shard."""

    path: str
    skip: int
    take: int


def worker_slices(folder: str, shards: Sequence[Shard], worker: int, workers: int) -> list[Slice]:
    """The slices that input worker `worker` of `workers` reads in one epoch.

    Over all workers every record is read exactly once, and the workers' counts differ by at most one record, also where
    there are fewer shards than workers. Only a shard that two workers share is read past by one of them.

    Args:
      folder: where the shards are.
      shards: the shards of a split, sorted by name.
      worker: index of this worker, 0 ≤ worker < workers.
      workers: number of input workers.

    Raises:
      UserError: there are fewer records than workers.
    """
    records = sum(shard.records for shard in shards)
    if records < workers:
        raise UserError(
            f"{folder} has {records} pairs for {workers} input workers: convert more pairs or use fewer workers"
        )
    start, stop = records * worker // workers, records * (worker + 1) // workers
    slices, first = [], 0
    for shard in shards:
        skip, end = max(start - first, 0), min(stop - first, shard.records)
        if skip < end:
            slices.append(Slice(os.path.join(folder, shard.name), skip, end - skip))
        first += shard.records
    return slices


def count(slices: Sequence[Slice]) -> int:
    """Number of records in the slices."""
    return sum(part.take for part in slices)


def locate(slices: Sequence[Slice], index: int) -> tuple[str, int]:
    """(path of the shard, number of the record in it) of record `index` of a worker's slices."""
    for part in slices:
        if index < part.take:
            return part.path, part.skip + index
        index -= part.take
    raise IndexError(index)
