"""What a pipeline reads."""

import dataclasses
import os

from fv import files
from fv import manifest as manifests
from fv.errors import UserError
from fv.pipeline import slices
from fv.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class PairSource:
    """A split of converted pairs and what is needed to turn its records into tensors.

    Attributes:
      folder: where the shards are.
      split: the split, from the manifest.
      image_size: side of the images in a batch, in pixels.
      crop_fraction: side of the centre square that is kept, over the shorter side, in (0, 1].
      identities: names whose position is their index in a batch's `identities`.
      hard_shards: how many of the split's shards, its last ones, hold the hard pairs of a curriculum.
      preprocessing: what was done to the images before they were stored; None where the manifest does not say.
    """

    folder: str
    split: manifests.Split
    image_size: int
    crop_fraction: float
    identities: tuple[str, ...] = ()
    hard_shards: int = 0
    preprocessing: Preprocessing | None = None

    @classmethod
    def of(
        cls, folder: str, manifest: manifests.Manifest, split: str, image_size: int, crop_fraction: float
    ) -> "PairSource":
        """The split of that name, with identities indexed among the training split's."""
        identities = manifest.splits["train"].identities if "train" in manifest.splits else ()
        preprocessing = manifest.preprocessing
        return cls(folder, manifest.split(split), image_size, crop_fraction, identities, preprocessing=preprocessing)

    def with_hard(self, folder: str, split: manifests.Split) -> "PairSource":
        """The same source with the pairs of a second data set, on this machine's disks, as its hard ones.

        Raises:
          UserError: it holds people whom this source does not know as training identities, or lies elsewhere.
        """
        strangers = sorted(set(split.identities) - set(self.identities))
        if strangers:
            raise UserError(
                f"--hard_tfrecords={folder} trains on {len(strangers):,} people whom {self.folder} does not "
                f"({strangers[0]}, …): mine it from that data set"
            )
        if files.is_remote(folder) or files.is_remote(self.folder):
            raise UserError(f"--hard_tfrecords={folder} and {self.folder} have to lie on a disk: copy them there")
        shards = tuple(dataclasses.replace(shard, name=os.path.abspath(f"{folder}/{shard.name}")) for shard in split.shards)
        both = {name: getattr(self.split, name) + getattr(split, name) for name in ("genuine", "impostor", "images")}
        merged = dataclasses.replace(self.split, **both, shards=self.split.shards + shards)
        return dataclasses.replace(self, split=merged, hard_shards=len(shards))

    def worker_slices(self, worker: int, workers: int) -> list[slices.Slice]:
        """What input worker `worker` of `workers` reads, but for hard pairs."""
        shards = self.split.shards[: len(self.split.shards) - self.hard_shards]
        return slices.worker_slices(self.folder, shards, worker, workers)

    def hard_slices(self, worker: int, workers: int) -> list[slices.Slice]:
        """The hard pairs that it reads."""
        shards = self.split.shards[len(self.split.shards) - self.hard_shards :]
        return slices.worker_slices(self.folder, shards, worker, workers) if shards else []
