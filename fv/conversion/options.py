"""The converter's options."""

import dataclasses
import os

from fv import files, manifest, workers
from fv.conversion import images as images_module
from fv.errors import UserError
from fv.options import option, required
from fv.preprocessing import Preprocessing

LOCAL = "local"
_PIXELS_PER_MEGAPIXEL = 1_000_000


@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """What to convert, and how."""

    images: str = required("folder that holds one folder of images per person")
    output: str = option("tfrecords", "Folder for the shards and manifest.json.")
    identity_level: int | None = option(
        None,
        "Which folder below --images names the person: 1 for the first, 2 for the folder in it, …; the folders above it do "
        "not matter. 1 if not given, and then folders that cannot be people are refused.",
        lower=1,
    )
    merge_names: bool | None = option(
        None,
        "Take folders for one person whose names differ only in case, blanks, '_', '-' or Unicode form; --nomerge_names "
        "keeps them apart. Refused where there are such names and neither is given.",
    )
    pairs: int | None = option(
        None, "Pairs over all splits; as many as the caps allow if not given.", lower=2
    )
    genuine_fraction: float = option(
        0.5, "Share of genuine pairs among those sampled.", lower=0.01, upper=0.99
    )
    pairs_file: str | None = option(
        None, "LFW pairs file; its pairs are converted instead of sampled ones."
    )
    pairs_csv: str | None = option(
        None,
        "CSV of image_a,image_b,label (1 same, 0 different); its pairs are converted instead of sampled ones.",
    )
    pairs_split: str = option("test", "Split that listed pairs go to.", choices=manifest.SPLITS)
    max_pairs_per_identity: int = option(
        50, "Most genuine pairs, and most impostor pairs, that one identity takes part in.", lower=1
    )
    max_pairs_per_image: int = option(
        20, "Most genuine pairs, and most impostor pairs, that one image takes part in.", lower=1
    )
    val_fraction: float = option(
        0.1, "Share of identities in the validation split.", lower=0.0, upper=1.0
    )
    test_fraction: float = option(
        0.1, "Share of identities in the test split.", lower=0.0, upper=1.0
    )
    shards: int | None = option(
        None,
        "Shards of the largest split, others in proportion; if not given 8, or as many as hold 128 MB each.",
        lower=1,
    )
    seed: int = option(0, "Seed of splits, pairs and their order.", lower=0)
    store_size: int | None = option(
        None,
        "Store images with a shorter side of this many pixels at most; as they are if not given.",
        lower=8,
        upper=4096,
    )
    crop: str = option(
        images_module.WHOLE,
        "What is stored with --store_size: none (all of an image), the centre square's side over the shorter side, "
        "in (0, 1], or a CSV of path,left,top,width,height in pixels.",
    )
    jpeg_quality: int = option(
        95, "Quality where an image has to be written anew as JPEG.", lower=1, upper=100
    )
    max_megapixels: float = option(64.0, "Largest image taken, in millions of pixels.", lower=0.0)
    keep_duplicates: bool = option(
        False,
        "Also sample pairs of pictures found under two identities, and of copies of one identity's file.",
    )
    strict: bool = option(
        False, "Stop at the first image that cannot be used, instead of leaving it out."
    )
    overwrite: bool = option(
        False,
        "Replace a data set that fv wrote into the output folder, and write every shard anew.",
    )
    workers: int | None = option(
        None, "Processes, which do not change the shards; one per core if not given.", lower=1
    )
    runner: str = option(
        LOCAL, "local, or an Apache Beam runner: DirectRunner, DaskRunner, DataflowRunner, …"
    )
    runner_options: str = option("", "Options of the Beam runner, as on its command line.")

    @property
    def pairs_list(self) -> str | None:
        """The file that lists pairs, None where they are sampled."""
        return self.pairs_file or self.pairs_csv

    @property
    def naming(self) -> tuple[int, bool]:
        """The level of the folder that names a person, and whether names that are nearly equal are joined."""
        return self.identity_level or 1, bool(self.merge_names)

    @property
    def max_pixels(self) -> int:
        """Most pixels that an image may have."""
        return int(self.max_megapixels * _PIXELS_PER_MEGAPIXEL)

    @property
    def processes(self) -> int:
        """Number of worker processes."""
        return self.workers or workers.available_cores()


def preprocessing_of(chosen: ConvertOptions) -> Preprocessing:
    """The record of what becomes of the images.

    Raises:
      OSError: the CSV of boxes cannot be read.
    """
    preprocessing = Preprocessing.from_flags(chosen.crop, chosen.store_size, chosen.jpeg_quality)
    if preprocessing.boxes is None:
        return preprocessing
    return dataclasses.replace(preprocessing, boxes=files.sha256(chosen.crop))


def require_consistent(chosen: ConvertOptions) -> None:
    """Checks what no single flag's range can.

    Raises:
      UserError: two flags contradict each other.
    """
    if chosen.pairs_file and chosen.pairs_csv:
        raise UserError("--pairs_file and --pairs_csv both list pairs: give one of them")
    if chosen.pairs_list and chosen.pairs is not None:
        raise UserError(
            f"--pairs={chosen.pairs} samples pairs, but {chosen.pairs_list} lists them: give one of them"
        )
    if chosen.crop != images_module.WHOLE and chosen.store_size is None:
        raise UserError(
            f"--crop={chosen.crop} cuts images as they are stored small: give --store_size too"
        )
    if chosen.runner_options and chosen.runner == LOCAL:
        raise UserError(
            f"--runner_options={chosen.runner_options} are for a Beam runner: give --runner too"
        )
    root, folder = (
        path if files.is_remote(path) else os.path.realpath(path)
        for path in (chosen.images, chosen.output)
    )
    if f"{folder}/".startswith(f"{root}/"):
        raise UserError(
            f"--output={chosen.output} lies in --images={chosen.images}: give a folder outside it"
        )
    if files.exists(folder) and not files.is_folder(folder):
        raise UserError(f"--output={chosen.output} is a file: give a folder")
