"""Converts a folder of face images, one folder per person, to shards of image pairs.

Writes OUTPUT/{train,val,test}-NNNNN-of-NNNNN.tfrecord, OUTPUT/manifest.json, OUTPUT/report.html (and .json), which tells
what was found, and OUTPUT/left_out.csv where images were not used. Pairs are sampled, or from an LFW pairs file or a CSV.
Killed at any moment and run again, it goes on with the shards that are missing. A file in OUTPUT that fv did not write is
never replaced. tfrecords/README.md documents the record.
"""

import os
import sys
import time

import pandas as pd

from fv import cli, files, manifest
from fv.conversion import convert, options, output, passed_over, report

_LEFT_OUT_SHOWN = 10
_COLUMNS = f"{'split':<6}{'identities':>12}{'images':>10}{'genuine':>12}{'impostor':>12}{'shards':>8}{'MB':>10}"


def main(chosen: options.ConvertOptions) -> None:
    """Converts and prints what was made."""
    start = time.monotonic()
    made, left_out = convert.convert(chosen)
    _print_left_out(left_out, chosen.output)
    print(_COLUMNS)
    for name, split in made.splits.items():
        _print_split(name, split)
    size = sum(shard.bytes for split in made.splits.values() for shard in split.shards)
    print(f"wrote {size / 1e6:,.1f} MB to {chosen.output} in {time.monotonic() - start:.1f} s")
    _print_found(files.load_json(os.path.join(chosen.output, report.FILE_NAME)))
    print(f"what was found: {os.path.join(chosen.output, report.PAGE_NAME)}")


def _print_split(name: str, split: manifest.Split) -> None:
    size = sum(shard.bytes for shard in split.shards) / 1e6
    sources = f"{len(split.identities):>12,}{split.images:>10,}"
    print(
        f"{name:<6}{sources}{split.genuine:>12,}{split.impostor:>12,}{len(split.shards):>8,}{size:>10,.1f}"
    )


def _print_found(content: dict) -> None:
    """What became of every file, and what is doubtful about the identities."""
    counts, others = (
        content["files"],
        pd.DataFrame(content["passed_over"], columns=list(passed_over.COLUMNS)),
    )
    listed = f"{counts['not_listed']:,} not in the list, " if counts["not_listed"] else ""
    kinds = passed_over.summarise(others)
    print(
        f"files: {counts['found']:,} found: {counts['used']:,} used, {counts['left_out']:,} left out, {listed}{kinds}"
    )
    for line in passed_over.advise(others):
        print(f"passed over: {line}", file=sys.stderr)
    for doubt in content["identities"]["doubts"]:
        print(f"warning: {doubt['seen']}: {doubt['means']}; {doubt['decides']}", file=sys.stderr)


def _print_left_out(left_out: pd.DataFrame, folder: str) -> None:
    for row in left_out.head(_LEFT_OUT_SHOWN).itertuples():
        print(f"left out: {row.path}: {row.reason}", file=sys.stderr)
    if len(left_out):
        print(
            f"{len(left_out):,} left out, all listed in {os.path.join(folder, output.LEFT_OUT)}",
            file=sys.stderr,
        )


def run() -> None:
    """The console script."""
    cli.run(main, options.ConvertOptions, description=__doc__)


if __name__ == "__main__":
    run()
