"""The converter's options."""

import dataclasses
import os

from fv import manifest, options, workers
from fv.errors import UserError


@dataclasses.dataclass(frozen=True)
class Options:
    """What to convert, and how."""

    images: str = options.required("folder that holds one folder of images per person")
    output: str = options.option("tfrecords", "Folder for the shards and manifest.json.")
    pairs: int | None = options.option(
        None, "Pairs over all splits, half genuine, half impostor; as many as the cap allows if not given.", lower=2
    )
    pairs_file: str | None = options.option(None, "LFW pairs file; its pairs are converted instead of sampled ones.")
    pairs_csv: str | None = options.option(
        None, "CSV of image_a,image_b,label (1 same, 0 different); its pairs are converted instead of sampled ones."
    )
    pairs_split: str = options.option("test", "Split that listed pairs go to.", choices=manifest.SPLITS)
    max_pairs_per_identity: int = options.option(
        50, "Most genuine pairs, and most impostor pairs, that one identity takes part in.", lower=1
    )
    val_fraction: float = options.option(0.1, "Share of identities in the validation split.", lower=0.0, upper=1.0)
    test_fraction: float = options.option(0.1, "Share of identities in the test split.", lower=0.0, upper=1.0)
    shards: int | None = options.option(
        None, "Shards of the largest split, others in proportion; if not given 8, or as many as hold 128 MB each.", lower=1
    )
    seed: int = options.option(0, "Seed of splits, pairs and their order.", lower=0)
    workers: int | None = options.option(
        None, "Processes, which do not change the shards; one per core if not given.", lower=1
    )
    jpeg_quality: int = options.option(95, "Quality where an image has to be written anew as JPEG.", lower=1, upper=100)
    max_megapixels: float = options.option(64.0, "Largest image taken, in millions of pixels.", lower=0.0)
    strict: bool = options.option(False, "Stop at the first image that cannot be used, instead of leaving it out.")
    overwrite: bool = options.option(False, "Replace a finished data set in the output folder.")

    @property
    def pairs_list(self) -> str | None:
        """The file that lists pairs, None where they are sampled."""
        return self.pairs_file or self.pairs_csv

    @property
    def processes(self) -> int:
        """Number of worker processes."""
        return self.workers or workers.cores()


def require_consistent(chosen: Options) -> None:
    """Checks what no single flag's range can.

    Raises:
      UserError: two flags contradict each other.
    """
    if chosen.pairs_file and chosen.pairs_csv:
        raise UserError("--pairs_file and --pairs_csv both list pairs: give one of them")
    if chosen.pairs_list and chosen.pairs is not None:
        raise UserError(f"--pairs={chosen.pairs} samples pairs, but {chosen.pairs_list} lists them: give one of them")
    root, folder = (os.path.realpath(path) for path in (chosen.images, chosen.output))
    if os.path.commonpath([root, folder]) == root:
        raise UserError(f"--output={chosen.output} lies in --images={chosen.images}: give a folder outside it")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UserError(f"--output={chosen.output} is a file: give a folder")
