"""Writes a data set again, with training pairs that are hard for a trained model.

python tools/mine_pairs.py --tfrecords=tfrecords/lfw --workdir=runs/lfw --output=tfrecords/lfw_hard

The model embeds every training image once. --hard_share is the share of mined pairs, and the other
pairs are random. Validation and test shards keep their bytes.
"""

from fv import cli
from fv.mining import MineOptions, mine


def main(options: MineOptions) -> None:
    """Mines and prints what was chosen."""
    _, found = mine(options)
    print(f"{'training pairs':<16}{'pairs':>10}{'hard':>10}{'mean cosine, hard':>20}{'others':>10}")
    for label, row in found.items():
        cosines = [row["hard_cosine"], row["other_cosine"]]
        shown = ("-" if value is None else f"{value:.3f}" for value in cosines)
        print("{:<16}{:>10,}{:>10,}{:>20}{:>10}".format(label, row["pairs"], row["hard"], *shown))
    print(f"wrote {options.output}")


if __name__ == "__main__":
    cli.run(main, MineOptions, description=__doc__)
