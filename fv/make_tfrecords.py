"""Converts face images to shards of image pairs.

Reads a folder per person, RecordIO, a folder with a list, tars, or Parquet. Writes
OUTPUT/{train,val,test}-NNNNN-of-NNNNN.tfrecord and OUTPUT/manifest.json, OUTPUT/report.html and
report.json about the images, and OUTPUT/left_out.csv if images were not used. Pairs are sampled, or
come from an LFW pairs file, a CSV or a .bin file. After a kill, the same command writes the missing
shards. fv never replaces a file in OUTPUT that it did not write. tfrecords/README.md documents the
record.
"""

import os
import sys
import time

import pandas as pd

from fv import cli, files
from fv.conversion import convert, datasets, folders, options, shards

_LEFT_OUT_SHOWN = 10
_HEADER = ("split", "identities", "images", "genuine", "impostor", "shards", "MB")
_WIDTHS = ("<6", ">12", ">10", ">12", ">12", ">8", ">10")


def main(chosen: options.ConvertOptions) -> None:
    """Converts and prints what was written."""
    start = time.monotonic()
    made, left_out = convert.convert(chosen)
    for row in left_out.head(_LEFT_OUT_SHOWN).itertuples():
        print(f"left out: {row.path}: {row.reason}", file=sys.stderr)
    if len(left_out):
        listed = os.path.join(chosen.output, shards.LEFT_OUT)
        print(f"{len(left_out):,} left out, all listed in {listed}", file=sys.stderr)
    _print_row(*_HEADER)
    total = 0
    for name, split in made.splits.items():
        size = sum(shard.bytes for shard in split.shards)
        counts = (len(split.identities), split.images, split.genuine, split.impostor)
        cells = (f"{count:,}" for count in (*counts, len(split.shards)))
        _print_row(name, *cells, f"{size / 1e6:,.1f}")
        total += size
    print(f"wrote {total / 1e6:,.1f} MB to {chosen.output} in {time.monotonic() - start:.1f} s")
    _print_findings(files.load_json(os.path.join(chosen.output, shards.REPORT)))
    print(f"report: {os.path.join(chosen.output, shards.REPORT_PAGE)}")


def _print_row(*cells: str) -> None:
    print("".join(f"{cell:{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)))


def _print_findings(content: dict) -> None:
    """Prints what became of every file, and what is doubtful about the identities."""
    counts = content["files"]
    others = pd.DataFrame(content["passed_over"], columns=list(datasets.PASSED_OVER))
    listed = f"{counts['not_listed']:,} not in the list, " if counts["not_listed"] else ""
    print(
        f"files: {counts['found']:,} found: {counts['used']:,} used, "
        f"{counts['left_out']:,} left out, {listed}{folders.summarise(others)}"
    )
    if found := content["faces"]:
        print(
            f"faces: {found['found']:,} found, {found['missing']:,} images without a face, "
            f"{found['several']:,} with several"
        )
    for line in folders.advise(others):
        print(f"passed over: {line}", file=sys.stderr)
    for doubt in content["identities"]["doubts"]:
        print(f"warning: {doubt['seen']}: {doubt['means']}; {doubt['decides']}", file=sys.stderr)


def run() -> None:
    """The console script."""
    cli.run(main, options.ConvertOptions, description=__doc__)


if __name__ == "__main__":
    run()
