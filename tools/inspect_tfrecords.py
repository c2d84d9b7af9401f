"""Checks a folder of shards, every byte of it, and prints what the records hold. Exit code 2 where anything is damaged.

python tools/inspect_tfrecords.py DIR
python tools/inspect_tfrecords.py --sheet=pairs.png DIR
"""

import dataclasses
import os
import sys

from fv import cli, contact_sheets, files
from fv.conversion import inspection
from fv.conversion import pairs as pairs_module
from fv.errors import UserError
from fv.options import option

_SHEET_PAIRS = 24  # half of them genuine


@dataclasses.dataclass(frozen=True)
class Options:
    """What to draw."""

    sheet: str | None = option(None, "PNG file to draw pairs from the shards into.")
    seed: int = option(0, "Which pairs are drawn.", lower=0)


def main(options: Options, folder: str) -> int:
    """Prints counts by split on stdout and damage on stderr."""
    if options.sheet:
        _require_png(options.sheet)
    sample = pairs_module.PairSample(_SHEET_PAIRS, options.seed)
    tallies, damage = inspection.inspect(folder, sample.add if options.sheet else None)
    print(
        f"{'split':<6}{'identities':>12}{'images':>10}{'genuine':>12}{'impostor':>12}{'genuine %':>11}{'bytes/pair':>12}"
    )
    for name, tally in tallies.items():
        share, size = (
            100 * tally.genuine / max(1, tally.pairs),
            tally.image_bytes / max(1, tally.pairs),
        )
        counts = f"{len(tally.identities):>12,}{len(tally.images):>10,}{tally.genuine:>12,}{tally.impostor:>12,}"
        print(f"{name:<6}{counts}{share:>11.1f}{size:>12,.0f}")
    for line in damage:
        print(f"damaged: {line}", file=sys.stderr)
    if options.sheet:
        _draw(sample, options.sheet)
    return cli.EXIT_ERROR if damage else 0


def _require_png(path: str) -> None:
    if not path.lower().endswith(".png"):
        raise UserError(f"--sheet={path} is not a PNG's name: give one that ends in .png")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise UserError(f"--sheet={path} is in a folder that does not exist: make it first")


def _draw(sample: pairs_module.PairSample, path: str) -> None:
    pairs = [contact_sheets.pair_from_record(pair) for pair in sample.pairs()]
    with files.atomic_open(path, "wb") as file:
        contact_sheets.draw_pairs(pairs).save(file, "PNG")
    print(f"drew {len(pairs)} pairs in {path}")


if __name__ == "__main__":
    cli.run(main, Options, positional=["DIR"], description=__doc__)
