"""Mines hard training pairs with a trained model: the same data set again, its training pairs chosen by the model.

python tools/mine_pairs.py --tfrecords=tfrecords/lfw --workdir=runs/lfw --output=tfrecords/lfw_hard

Embeds every training image once, finds each one's nearest impostors and farthest genuine partners, and writes shards of
mined and random pairs in the shares that --hard_share says. Validation and test shards keep their bytes. More is in
docs/train.md.
"""

from fv import cli
from fv.mining import options, run


def main(chosen: options.MineOptions) -> None:
    """Mines and prints what was chosen."""
    _, found = run.mine(chosen)
    print(f"{'training pairs':<16}{'pairs':>10}{'hard':>10}{'mean cosine, hard':>20}{'others':>10}")
    for label, row in found.items():
        cosines = (
            "-" if value is None else f"{value:.3f}"
            for value in (row["hard_cosine"], row["other_cosine"])
        )
        print("{:<16}{:>10,}{:>10,}{:>20}{:>10}".format(label, row["pairs"], row["hard"], *cosines))
    print(f"wrote {chosen.output}")


if __name__ == "__main__":
    cli.run(main, options.MineOptions, description=__doc__)
