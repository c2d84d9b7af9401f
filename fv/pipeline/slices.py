"""Which records each input worker reads: contiguous ranges of a split, exact for any number of shards and workers."""

import dataclasses
import os
from collections.abc import Sequence
from typing import NamedTuple

from fv import manifest as manifests
from fv.errors import UserError
from fv.manifest import Shard
from fv.preprocessing import Preprocessing


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


def count_records(slices: Sequence[Slice]) -> int:
    """Number of records in the slices."""
    return sum(part.take for part in slices)


def locate_record(slices: Sequence[Slice], index: int) -> tuple[str, int]:
    """(path of the shard, number of the record in it) of record `index` of a worker's slices."""
    for part in slices:
        if index < part.take:
            return part.path, part.skip + index
        index -= part.take
    raise IndexError(index)


# What a pipeline reads.


@dataclasses.dataclass(frozen=True)
class PairSource:
    """A split of converted pairs and what is needed to turn its records into tensors.

    Attributes:
      folder: where the shards are.
      split: the split, from the manifest.
      image_size: side of the images in a batch, in pixels.
      crop_fraction: side of the centre square that is kept, over the shorter side, in (0, 1].
      identities: names whose position is their index in a batch's `identities`.
      preprocessing: what was done to the images before they were stored; None where the manifest does not say.
    """

    folder: str
    split: manifests.Split
    image_size: int
    crop_fraction: float
    identities: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    @classmethod
    def of(
        cls,
        folder: str,
        manifest: manifests.Manifest,
        split: str,
        image_size: int,
        crop_fraction: float,
    ) -> "PairSource":
        """The split of that name, with identities indexed among the training split's."""
        identities = manifest.splits["train"].identities if "train" in manifest.splits else ()
        preprocessing = manifest.preprocessing
        return cls(
            folder,
            manifest.split(split),
            image_size,
            crop_fraction,
            identities,
            preprocessing=preprocessing,
        )

    def worker_slices(self, worker: int, workers: int) -> list[Slice]:
        """What input worker `worker` of `workers` reads."""
        return worker_slices(self.folder, self.split.shards, worker, workers)
