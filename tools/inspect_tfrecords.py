"""Checks a folder of shards, every byte of it, and prints what the records hold. Exit code 2 where anything is damaged.

python tools/inspect_tfrecords.py DIR
"""

import dataclasses
import sys

from fv import cli
from fv.conversion import inspection


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """There are none."""


def main(_: NoOptions, folder: str) -> int:
    """Prints counts by split on stdout and damage on stderr."""
    tallies, damage = inspection.inspect(folder)
    print(f"{'split':<6}{'identities':>12}{'images':>10}{'genuine':>12}{'impostor':>12}{'genuine %':>11}{'bytes/pair':>12}")
    for name, tally in tallies.items():
        share, size = 100 * tally.genuine / max(1, tally.pairs), tally.image_bytes / max(1, tally.pairs)
        counts = f"{len(tally.identities):>12,}{len(tally.images):>10,}{tally.genuine:>12,}{tally.impostor:>12,}"
        print(f"{name:<6}{counts}{share:>11.1f}{size:>12,.0f}")
    for line in damage:
        print(f"damaged: {line}", file=sys.stderr)
    return cli.EXIT_ERROR if damage else 0


if __name__ == "__main__":
    cli.run(main, NoOptions, positional=["DIR"], description=__doc__)
