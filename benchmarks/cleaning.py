"""Plants wrong labels in a data set's embeddings, and measures which of them are found.

python benchmarks/cleaning.py --embeddings=lfw.parquet --json=/tmp/cleaning.json

An image gets the label of another image of the data set. Of people with four images or more, some
pairs are merged into one, and the images of others are split into two. Embeddings stay the same.
Findings that the original labels have already are errors of the data set or false alarms; they
count as false alarms.
"""

import dataclasses

import numpy as np

from fv import cleaning, cli, embedding_files, files
from fv.embedding_files import Embeddings
from fv.options import option, required

_LEAST_IMAGES = 4  # of people that are merged or split


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is planted."""

    embeddings: str = required("file that fv.embed wrote")
    wrong: float = option(0.05, "Share of images with a wrong label.", lower=0.0, upper=0.5)
    merged: int = option(10, "Pairs of people that become one.", lower=0)
    split: int = option(10, "People who become two.", lower=0)
    seeds: int = option(3, "Repetitions with other errors.", lower=1)
    json: str | None = option(None, "File to write the figures to.")


def main(options: BenchmarkOptions) -> None:
    """Prints precision and recall of each kind of error, and writes `--json`."""
    held = embedding_files.read(options.embeddings)
    runs = [measure(held, options, seed) for seed in range(options.seeds)]
    figures: dict = {}
    print(f"{'kind':<14}{'planted':>9}{'found':>8}{'right':>8}{'precision':>11}{'recall':>8}")
    for kind in runs[0]:
        planted, found, right = (sum(run[kind][place] for run in runs) for place in range(3))
        shares = right / max(1, found), right / max(1, planted)
        figures[kind] = dict(planted=planted, found=found, right=right) | dict(
            zip(("precision", "recall"), shares, strict=True)
        )
        print(f"{kind:<14}{planted:>9}{found:>8}{right:>8}{shares[0]:>11.3f}{shares[1]:>8.3f}")
    if options.json:
        files.save_json(figures, options.json)


def measure(
    held: Embeddings, options: BenchmarkOptions, seed: int
) -> dict[str, tuple[int, int, int]]:
    """Counts by kind how many errors are planted, how many found, and how many of those right."""
    rng = np.random.default_rng(seed)
    labels = held.identities.astype(object)
    names, counts = np.unique(held.identities, return_counts=True)
    people = rng.permutation(names[counts >= _LEAST_IMAGES])
    first, second, split = np.split(people, np.cumsum([options.merged] * 2))
    split = split[: options.split]
    for one, other in zip(first, second, strict=True):
        labels[labels == other] = one
    for name in split:
        rows = rng.permutation(np.flatnonzero(labels == name))
        labels[rows[: len(rows) // 2]] = f"{name}~"
    untouched = ~np.isin(held.identities, np.concatenate([first, second, split]))
    rows = np.flatnonzero(untouched)
    wrong = rng.choice(rows, round(options.wrong * len(labels)), replace=False)
    for row in wrong:
        labels[row] = rng.choice(held.identities[untouched & (held.identities != labels[row])])
    found = cleaning.find_doubts(held._replace(identities=labels.astype(str)))
    far = {int(each.images[0]) for each in found if each.kind == cleaning.FAR}
    two = {each.identity for each in found if each.kind == cleaning.TWO_PEOPLE}
    same = {
        frozenset((each.identity, each.other))
        for each in found
        if each.kind == cleaning.SAME_PERSON
    }
    doubles = {frozenset((name, f"{name}~")) for name in split}
    return {
        cleaning.FAR: (len(wrong), len(far), len(far & set(wrong.tolist()))),
        cleaning.TWO_PEOPLE: (len(first), len(two), len(two & set(first))),
        cleaning.SAME_PERSON: (len(doubles), len(same), len(same & doubles)),
    }


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
