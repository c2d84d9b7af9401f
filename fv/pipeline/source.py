"""What a pipeline reads."""

import dataclasses

from fv import manifest as manifests
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

    def worker_slices(self, worker: int, workers: int) -> list[slices.Slice]:
        """What input worker `worker` of `workers` reads."""
        return slices.worker_slices(self.folder, self.split.shards, worker, workers)
