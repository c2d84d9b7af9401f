"""Options of the converter."""

import dataclasses
import os

from fv import files, manifest, workers
from fv.conversion import faces, sources, storage
from fv.conversion.faces import FaceOptions
from fv.conversion.pair_sampling import Caps
from fv.errors import UserError
from fv.options import group, option, required
from fv.preprocessing import Preprocessing

LOCAL = "local"


@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """What to convert, and how."""

    images: str = required(
        "folder that holds one folder of images per person, or several, with commas; .rec, .tar "
        "or .parquet files, or their folder; or a .bin file of pairs of images, which are "
        "converted instead of sampled ones"
    )
    output: str = option("tfrecords", "Folder for the shards and manifest.json.")
    labels: str | None = option(
        None,
        "Who is in the images: a list of 'path,label' beside a folder, the column of Parquet files "
        "or the field of .json files in tars; 'label' or 'identity', for example, if not given.",
    )
    identity_level: int | None = option(
        None,
        "Level of the folder below --images that names the person, from 1; folders above it are "
        "ignored. If not given, it is 1, and folders that cannot be people are refused.",
        lower=1,
    )
    merge_names: bool | None = option(
        None,
        "Treat folders as one person if their names differ only in case, blanks, '_', '-' or "
        "Unicode form; --nomerge_names keeps them apart. Needed if there are such names.",
    )
    pairs: int | None = option(
        None, "Pairs in all splits; as many as the caps allow if not given.", lower=2
    )
    genuine_fraction: float = option(
        0.5, "Share of genuine pairs among those sampled.", lower=0.01, upper=0.99
    )
    pairs_file: str | None = option(
        None,
        "List of pairs in LFW's format, with lines 'path path label', or CFP's folder "
        "Protocol/Split/FP or FF; its pairs are converted instead of sampled ones.",
    )
    pairs_csv: str | None = option(
        None,
        "CSV of image_a,image_b,label (1 same, 0 different); its pairs are converted instead of "
        "sampled ones.",
    )
    pairs_split: str = option("test", "Split of listed pairs.", choices=manifest.SPLITS)
    max_pairs_per_identity: int = option(
        50, "Most genuine pairs, and most impostor pairs, of one identity.", lower=1
    )
    max_pairs_per_image: int = option(
        20, "Most genuine pairs, and most impostor pairs, of one image.", lower=1
    )
    val_fraction: float = option(
        0.1, "Share of identities in the validation split.", lower=0.0, upper=1.0
    )
    test_fraction: float = option(
        0.1, "Share of identities in the test split.", lower=0.0, upper=1.0
    )
    shards: int | None = option(
        None,
        "Shards of the largest split, the others in proportion; if not given, 8, or so many that "
        "none exceeds 128 MB.",
        lower=1,
    )
    seed: int = option(0, "Seed of splits, pairs and their order.", lower=0)
    store_size: int | None = option(
        None,
        "Store images with a shorter side of at most this many pixels; in full size if not given.",
        lower=8,
        upper=4096,
    )
    crop: str = option(
        storage.WHOLE,
        "Part of an image to store, with --store_size: none (the whole image), the side of the "
        "centre square as a fraction of the shorter side, in (0, 1], or a CSV of "
        "path,left,top,width,height in pixels.",
    )
    faces: FaceOptions = group(FaceOptions)
    align_margin: float = option(
        0.0,
        "Room around the aligned face on each side, over the side of InsightFace's template.",
        lower=-0.2,
        upper=2.0,
    )
    jpeg_quality: int = option(
        95, "Quality of images that have to be encoded as JPEG.", lower=1, upper=100
    )
    max_megapixels: float = option(64.0, "Largest image to use, in megapixels.", lower=0.0)
    keep_duplicates: bool = option(
        False,
        "Also sample pairs of pictures found under two identities, and of copies of a file of one "
        "identity.",
    )
    exclude: str | None = option(
        None, "CSV with the column path, and reason if wanted: images to leave out."
    )
    strict: bool = option(False, "Stop at the first unusable image instead of leaving it out.")
    overwrite: bool = option(
        False, "Replace a data set that fv wrote into the output folder, with all its shards."
    )
    workers: int | None = option(
        None, "Processes; one per core if not given. The shards do not depend on it.", lower=1
    )
    runner: str = option(
        LOCAL, "local, or an Apache Beam runner: DirectRunner, DaskRunner, DataflowRunner, …"
    )
    runner_options: str = option("", "Options of the Beam runner, as on its command line.")

    @property
    def pairs_list(self) -> str | None:
        """The file that lists pairs; None if they are sampled."""
        return self.pairs_file or self.pairs_csv

    @property
    def caps(self) -> Caps:
        """Most pairs of one label that one identity, and that one image, takes part in."""
        return Caps(self.max_pairs_per_identity, self.max_pairs_per_image)

    @property
    def max_pixels(self) -> int:
        """Most pixels of an image."""
        return int(self.max_megapixels * 1e6)

    @property
    def processes(self) -> int:
        """Number of worker processes."""
        return self.workers or workers.available_cores()


def preprocessing_of(chosen: ConvertOptions) -> Preprocessing:
    """Returns the record of how the images are stored, without how faces are aligned."""
    preprocessing = Preprocessing.from_flags(chosen.crop, chosen.store_size, chosen.jpeg_quality)
    if preprocessing.boxes is None:
        return preprocessing
    return dataclasses.replace(preprocessing, boxes=files.sha256(chosen.crop))


def require_consistent(chosen: ConvertOptions) -> None:
    """Checks the flags against each other.

    Raises:
      UserError: two flags contradict each other.
    """
    if chosen.pairs_file and chosen.pairs_csv:
        raise UserError("--pairs_file and --pairs_csv both list pairs: give one of them")
    if chosen.exclude and chosen.pairs_list:
        raise UserError(
            f"--exclude={chosen.exclude} would change the protocol of {chosen.pairs_list}: leave "
            "it out, or remove pairs from the list"
        )
    if chosen.pairs_list and chosen.pairs is not None:
        raise UserError(
            f"--pairs={chosen.pairs} samples pairs, but {chosen.pairs_list} lists them: "
            "give one of them"
        )
    if chosen.images.lower().endswith(".bin") and (chosen.pairs_list or chosen.pairs):
        raise UserError(
            f"--images={chosen.images} lists its own pairs: leave out --pairs, --pairs_file and "
            "--pairs_csv"
        )
    if chosen.crop != storage.WHOLE and chosen.store_size is None:
        raise UserError(
            f"--crop={chosen.crop} cuts images as they are stored small: give --store_size too"
        )
    faces.require_consistent(chosen.faces)
    if chosen.faces.given and chosen.store_size is None:
        raise UserError(
            f"faces of {chosen.faces.source} are aligned to squares of --store_size: give it, as "
            "in --store_size=160"
        )
    if chosen.faces.given and chosen.crop != storage.WHOLE:
        raise UserError(
            f"--crop={chosen.crop} and {chosen.faces.source} both say what part of an image is "
            "stored: give --align_margin for more room around a face"
        )
    if chosen.align_margin and not chosen.faces.given:
        raise UserError(
            f"--align_margin={chosen.align_margin:g} is of aligned faces: give --detector or "
            "--face_points too"
        )
    if chosen.runner_options and chosen.runner == LOCAL:
        raise UserError(
            f"--runner_options={chosen.runner_options} are for a Beam runner: give --runner too"
        )
    folder, *roots = (
        path if files.is_remote(path) else os.path.realpath(path)
        for path in (chosen.output, *sources.split_paths(chosen.images))
    )
    if any(f"{folder}/".startswith(f"{root}/") for root in roots):
        raise UserError(
            f"--output={chosen.output} lies in --images={chosen.images}: give a folder outside it"
        )
    if files.exists(folder) and not files.is_folder(folder):
        raise UserError(f"--output={chosen.output} is a file: give a folder")
