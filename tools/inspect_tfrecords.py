"""Checks every byte of a folder of shards, and prints what the records hold.

python tools/inspect_tfrecords.py DIR
python tools/inspect_tfrecords.py --sheet=pairs.png DIR
python tools/inspect_tfrecords.py --export=images DIR

--export writes the images back, if nothing is damaged: images/SPLIT/PERSON/NAME.jpg, or with
--export=images.tar WebDataset tars images-SPLIT-NNNNN.tar.

Exits with code 2 if anything is damaged.
"""

import contextlib
import dataclasses
import os
import sys

from fv import cli, contact_sheets, files, manifest
from fv.conversion import inspection
from fv.errors import UserError
from fv.options import option

_SHEET_PAIRS = 24  # half of them genuine
_HEADER = ("split", "identities", "images", "genuine", "impostor", "genuine %", "bytes/pair")
_WIDTHS = ("<6", ">12", ">10", ">12", ">12", ">11", ">12")


@dataclasses.dataclass(frozen=True)
class Options:
    """What to draw and to write."""

    sheet: str | None = option(None, "PNG file to draw pairs from the shards into.")
    export: str | None = option(
        None, "Folder to write the images into, a folder per person; or NAME.tar for tar shards."
    )
    seed: int = option(0, "Seed that selects the pairs of the sheet.", lower=0)


def main(options: Options, folder: str) -> int:
    """Prints counts by split on stdout and damage on stderr."""
    if options.sheet:
        _require_png(options.sheet)
    sample = inspection.PairSample(_SHEET_PAIRS, options.seed)
    with contextlib.ExitStack() as stack:
        visits = [sample.add] if options.sheet else []
        if options.export:
            splits = manifest.read(folder).splits.items()
            people = {person: name for name, split in splits for person in split.identities}
            writer = stack.enter_context(inspection.ImageWriter(options.export, people))
            visits.append(writer.add)
        tallies, damage = inspection.inspect(folder, visits)
        if options.export and not damage:
            writer.publish()
            print(f"wrote {len(writer):,} images to {options.export}")
    _print_row(*_HEADER)
    for name, tally in tallies.items():
        count = max(1, tally.pairs)
        sizes = (len(tally.identities), len(tally.images), tally.genuine, tally.impostor)
        share, size = 100 * tally.genuine / count, tally.image_bytes / count
        _print_row(name, *(f"{each:,}" for each in sizes), f"{share:.1f}", f"{size:,.0f}")
    for line in damage:
        print(f"damaged: {line}", file=sys.stderr)
    if options.sheet:
        pairs = [contact_sheets.pair_from_record(pair) for pair in sample.pairs()]
        with files.atomic_open(options.sheet, "wb") as file:
            contact_sheets.draw_pairs(pairs).save(file, "PNG")
        print(f"drew {len(pairs)} pairs in {options.sheet}")
    return cli.EXIT_ERROR if damage else 0


def _print_row(*cells: str) -> None:
    print("".join(f"{cell:{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)))


def _require_png(path: str) -> None:
    if not path.lower().endswith(".png"):
        raise UserError(f"--sheet={path} is not a PNG file: give a name that ends in .png")
    if not files.is_folder(os.path.dirname(path) or "."):
        raise UserError(f"--sheet={path} is in a folder that does not exist: make it first")


if __name__ == "__main__":
    cli.run(main, Options, positional=["DIR"], description=__doc__)
