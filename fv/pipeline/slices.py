"""What a pipeline reads: a split of converted pairs, and the slices of it that each worker gets."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fv import jpeg_loader
from fv.errors import UserError
from fv.manifest import Manifest, Split
from fv.preprocessing import Preprocessing

# From this ratio to image_size on, sending the bytes to the device costs more than resizing on
# the host.
_LARGEST_LOAD_RATIO = 1.5


class Slice(NamedTuple):
    """Records [skip, skip + take) of one shard."""

    path: str
    skip: int
    take: int


@dataclasses.dataclass(frozen=True)
class PairSource:
    """A split of converted pairs and what is needed to turn its records into tensors.

    Attributes:
      folder: where the shards are.
      split: the split, from the manifest.
      image_size: side of the images in a batch, in pixels.
      crop_fraction: side of the centre square that is kept, over the shorter side, in (0, 1].
      identities: names whose position is their index in a batch's `identities`.
      preprocessing: what the converter did to the images.
      paths: if given, of each image the index of its identity; a batch then says which images it
        has, by their place in `paths`, instead of which identities.
    """

    folder: str
    split: Split
    image_size: int
    crop_fraction: float
    identities: tuple[str, ...] = ()
    preprocessing: Preprocessing = Preprocessing()
    paths: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls, folder: str, manifest: Manifest, split: str, image_size: int, crop_fraction: float
    ) -> "PairSource":
        """The split of that name, with identities indexed among the training split's."""
        return cls(
            folder,
            manifest.split(split),
            image_size,
            crop_fraction,
            manifest.splits["train"].identities if "train" in manifest.splits else (),
            manifest.preprocessing,
        )

    def worker_slices(self, worker: int, workers: int) -> list[Slice]:
        """The slices that input worker `worker` of `workers` reads in one epoch.

        Over all workers every record is read exactly once, and the workers' counts differ by at
        most one record, also with fewer shards than workers. Each worker gets a contiguous range.

        Raises:
          UserError: there are fewer records than workers.
        """
        records = sum(shard.records for shard in self.split.shards)
        if records < workers:
            raise UserError(
                f"{self.folder} has {records} pairs for {workers} input workers: "
                "convert more pairs or use fewer workers"
            )
        start, stop = records * worker // workers, records * (worker + 1) // workers
        slices, first = [], 0
        for shard in self.split.shards:
            skip, end = max(start - first, 0), min(stop - first, shard.records)
            if skip < end:
                slices.append(Slice(os.path.join(self.folder, shard.name), skip, end - skip))
            first += shard.records
        return slices


def count_records(slices: Sequence[Slice]) -> int:
    """Number of records in the slices."""
    return sum(each.take for each in slices)


def choose_load_size(
    requested: int | None, manifest: Manifest, image_size: int, crop_fraction: float
) -> int:
    """The side, in pixels, of the training images that leave the host.

    Args:
      requested: the user's choice. None for the default: the centre square at its stored size,
        where all stored images are squares of one size and it is at most 1.5 × `image_size`; else
        `image_size`.
      manifest: of the shards.
      image_size: side of the network's input in pixels.
      crop_fraction: side of the centre square that is kept, over the stored side.
    """
    if requested or manifest.image_side is None:
        return requested or image_size
    side = manifest.image_side
    _, _, window = jpeg_loader.centre_square(side, side, crop_fraction)
    return window if window <= _LARGEST_LOAD_RATIO * image_size else image_size
