"""Pairs and scores for the tests of evaluation."""

import numpy as np

from fv import progress
from fv.evaluation.pairs import Images, PairSet

PEOPLE = 12
IMAGES_PER_PERSON = 3


def pair_set(folds: int = 3, pairs: int = 240, seed: int = 0) -> PairSet:
    """Balanced pairs, every fold with people of its own, as LFW's View 2 has them."""
    rng = np.random.default_rng(seed)
    identities = [
        f"p{number // IMAGES_PER_PERSON:02d}" for number in range(PEOPLE * IMAGES_PER_PERSON)
    ]
    paths = [f"{name}/{number}.jpg" for number, name in enumerate(identities)]
    fold, labels = np.arange(pairs) * folds // pairs, np.arange(pairs) % 2
    of_fold = PEOPLE // folds
    ends = (
        np.array([rng.choice(of_fold, 2, replace=False) for _ in range(pairs)])
        + (fold * of_fold)[:, np.newaxis]
    )
    ends[labels == 1, 1] = ends[labels == 1, 0]
    first, second = (ends * IMAGES_PER_PERSON + rng.integers(IMAGES_PER_PERSON, size=(pairs, 2))).T
    counts = np.full(len(paths), IMAGES_PER_PERSON)
    return PairSet(
        "made", Images(paths, identities, counts, lambda number: b""), first, second, labels, fold
    )


def scores(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Overlapping similarities, float32 [n]."""
    return np.random.default_rng(seed).normal(0.4 + 0.2 * labels, 0.15).astype(np.float32)


def record_progress(monkeypatch) -> list[progress.Progress]:
    """The progress lines that are shown from now on."""
    shown, original = [], progress.Progress

    def show(*given, **flags) -> progress.Progress:
        shown.append(original(*given, **flags))
        return shown[-1]

    monkeypatch.setattr(progress, "Progress", show)
    return shown
