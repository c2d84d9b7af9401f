"""Writes listed pairs as a verification set (.bin), which InsightFace and others read.

python tools/make_bin.py --images=lfw --pairs_file=pairs.txt --output=lfw.bin --store_size=112

Sound JPEG files are stored unchanged unless they are cut or made smaller.
"""

import dataclasses
import itertools

from fv import cli, ownership, progress
from fv.conversion import storage, verification_sets
from fv.conversion.image_files import BadImage
from fv.errors import UserError
from fv.evaluation import pairs
from fv.options import option, required


@dataclasses.dataclass(frozen=True)
class Options:
    """Which pairs to write, and how."""

    images: str = required("folder of the images of the list")
    output: str = required("file to write; its name ends in .bin")
    pairs_file: str | None = option(
        None, "List of pairs, in any format that fv.evaluate --pairs_file reads."
    )
    pairs_csv: str | None = option(None, "CSV of image_a,image_b,label (1 same, 0 different).")
    identity_level: int | None = option(
        None, "Level of the folder below --images that names the person, from 1.", lower=1
    )
    crop: str = option(storage.WHOLE, "Part of an image to store, as in the converter.")
    store_size: int | None = option(
        None, "Make the shorter side at most this many pixels.", lower=8, upper=4096
    )


def main(options: Options) -> None:
    """Writes the set and prints what it holds."""
    listed = options.pairs_file or options.pairs_csv
    if not listed or (options.pairs_file and options.pairs_csv):
        raise UserError("give --pairs_file or --pairs_csv: one of them has to list the pairs")
    if not verification_sets.is_verification_set(options.output):
        raise UserError(f"--output={options.output} is not a .bin file: give a name ending in .bin")
    ownership.require_new(options.output, "output")
    crop = storage.parse_crop(options.crop)
    found = pairs.read_listed_pairs(
        listed,
        options.images,
        pairs.storage_rules(crop, options.store_size),
        is_csv=bool(options.pairs_csv),
        allow_missing=False,
        boxes=crop.boxes,
        identity_level=options.identity_level,
    )
    stored = []
    ends = list(itertools.chain.from_iterable(zip(found.first, found.second, strict=True)))
    with progress.Progress(len(ends), "read", "image") as bar:
        for number in ends:
            try:
                stored.append(found.images.read(number))
            except BadImage as error:
                name = found.images.paths[number]
                raise UserError(f"{name}: {error}; mend the image") from error
            bar.update()
    verification_sets.write(options.output, stored, [bool(label) for label in found.labels])
    genuine = int(found.labels.sum())
    print(
        f"wrote {genuine:,} genuine and {len(found) - genuine:,} impostor pairs: {options.output}"
    )


if __name__ == "__main__":
    cli.run(main, Options, description=__doc__)
