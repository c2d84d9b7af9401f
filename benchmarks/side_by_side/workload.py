"""The same work for every contestant: pairs of JPEGs on the disk, and the batches that are to come of them."""

import dataclasses
import os
import pathlib

from fv import files, manifest

FILE_NAME = "workload.json"


@dataclasses.dataclass(frozen=True)
class Workload:
    """What a contestant is given.

    Attributes:
      folder: holds images/PERSON/*.jpg, pairs.csv and the shards made of them.
      side: of the square images in a batch, in pixels.
      batch_size: pairs in a batch.
      cores: how many a contestant may use.
      shuffle_buffer: records held for shuffling by those that shuffle in a buffer.
      decoder: fv's `--decoder`.
      cache: fv's `--cache`.
      warm_up_images: images drawn at least before the clock starts, such as an epoch's where a cache fills.
    """

    folder: str
    side: int
    batch_size: int
    cores: int
    shuffle_buffer: int = 1024
    decoder: str = "auto"
    cache: str = "none"
    warm_up_images: int = 0

    @property
    def images(self) -> str:
        """Folder of folders of JPEGs."""
        return os.path.join(self.folder, "images")

    @property
    def shards(self) -> str:
        """Folder of fv's shards, all of one split, train."""
        return os.path.join(self.folder, "shards")

    def image_paths(self) -> list[pathlib.Path]:
        """Paths of the JPEGs in order."""
        return sorted(pathlib.Path(self.images).glob("*/*.jpg"))

    def shard_paths(self) -> list[str]:
        """Paths of the shards in order."""
        return [
            os.path.join(self.shards, shard.name)
            for shard in manifest.load(self.shards).split("train").shards
        ]


def save(work: Workload) -> str:
    """Writes the workload down for another process and returns the file's path."""
    path = os.path.join(work.folder, FILE_NAME)
    files.save_json(dataclasses.asdict(work), path)
    return path


def load(path: str) -> Workload:
    """Reads what `save` wrote."""
    return Workload(**files.load_json(path))


def mean_bytes(work: Workload) -> float:
    """Mean size of a stored image, which is half a record's with its names and frame."""
    split = manifest.load(work.shards).split("train")
    return sum(shard.bytes for shard in split.shards) / split.pairs / 2
