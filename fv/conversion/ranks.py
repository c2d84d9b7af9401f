"""Combinations by their rank: sets of pairs as 64-bit integers, drawn without ever being listed."""

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


def combinations(sizes: np.ndarray) -> np.ndarray:
    """Number of unordered pairs within groups of these sizes, int64."""
    return sizes * (sizes - 1) // 2


def unrank(ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pair 0 ≤ a < b of each rank in the order (0, 1), (0, 2), (1, 2), (0, 3), …: rank = b (b − 1) / 2 + a.

    Args:
      ranks: int64 array, ranks below 2^62.

    Returns:
      int64 arrays a and b.
    """
    b = ((1 + np.sqrt(1.0 + 8.0 * ranks)) / 2).astype(np.int64)
    b -= b * (b - 1) // 2 > ranks  # the root is rounded, by less than one up or down
    b += b * (b + 1) // 2 <= ranks
    return ranks - b * (b - 1) // 2, b


def occurrences(values: np.ndarray) -> np.ndarray:
    """How many times each element's value has occurred before it, int64."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(values) else np.empty(0, np.int64)
    lengths = np.diff(np.r_[starts, len(values)])
    counts = np.empty(len(values), np.int64)
    counts[order] = np.arange(len(values)) - np.repeat(starts, lengths)
    return counts
