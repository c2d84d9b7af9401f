"""Random draws of integers without repetition, and counts of repetitions."""

import numpy as np


def distinct_integers(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws `count` different integers in [0, total), uniformly, in random order; memory grows with `count` only.

    Args:
      total: number of integers to draw from.
      count: how many, at most `total`.
      rng: source of randomness.

    Returns:
      int64 array.
    """
    if 2 * count > total:
        return rng.permutation(total)[:count]
    drawn = np.empty(0, np.int64)
    while len(drawn) < count:
        missing = count - len(drawn)
        drawn = np.union1d(drawn, rng.integers(total, size=missing + missing // 8 + 16))
    return rng.permutation(drawn)[:count]


def occurrences(values: np.ndarray) -> np.ndarray:
    """How many times each element's value has occurred before it, int64."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = (
        np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        if len(values)
        else np.empty(0, np.int64)
    )
    lengths = np.diff(np.r_[starts, len(values)])
    counts = np.empty(len(values), np.int64)
    counts[order] = np.arange(len(values)) - np.repeat(starts, lengths)
    return counts
