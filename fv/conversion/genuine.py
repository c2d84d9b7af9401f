"""Genuine pairs: two images of one identity."""

import numpy as np

from fv.conversion import ranks


def count_available(sizes: np.ndarray, cap: int) -> int:
    """Number of genuine pairs there are, with at most `cap` of each identity.

    Args:
      sizes: int64, images of each identity.
      cap: most pairs of one identity.
    """
    return int(np.minimum(cap, ranks.combinations(sizes)).sum())


def sample_genuine(sizes: np.ndarray, count: int, cap: int, rng: np.random.Generator) -> np.ndarray:
    """Draws different genuine pairs; identities share them in proportion to the pairs each may give.

    Images are numbered 0 … sum(sizes) − 1 with those of one identity in a row.

    Args:
      sizes: int64, images of each identity.
      count: number of pairs, at most `count_available(sizes, cap)`.
      cap: most pairs of one identity.
      rng: source of randomness.

    Returns:
      int64 array of shape (count, 2), the lower image first.
    """
    quotas = _draw_quotas(np.minimum(cap, ranks.combinations(sizes)), count, rng)
    dense = 2 * quotas > ranks.combinations(sizes)
    pairs = [
        _enumerate(np.flatnonzero(dense), sizes, quotas, rng),
        _reject_repeats(np.flatnonzero(~dense & (quotas > 0)), sizes, quotas, rng),
    ]
    owners, drawn = np.concatenate(pairs, axis=1)
    starts = np.cumsum(sizes) - sizes
    return np.stack(ranks.unrank(drawn), axis=1) + starts[owners, None]


def _draw_quotas(available: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """How many pairs each identity gives, as if `count` were drawn from all that the caps allow."""
    edges = np.cumsum(available)
    chosen = ranks.distinct_integers(int(edges[-1]), count, rng)
    return np.bincount(np.searchsorted(edges, chosen, side="right"), minlength=len(available))


def _enumerate(owners: np.ndarray, sizes: np.ndarray, quotas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where over half of an identity's pairs are wanted: shuffles all, keeps the quota. Returns (owner, rank) rows."""
    all_pairs = ranks.combinations(sizes[owners])
    owner = np.repeat(owners, all_pairs)
    rank = ranks.occurrences(owner)
    shuffled = np.lexsort((rng.random(len(owner)), owner))
    kept = shuffled[rank < quotas[owner]]  # both orders put an identity's pairs in the same places
    return np.stack([owner[kept], rank[kept]])


def _reject_repeats(owners: np.ndarray, sizes: np.ndarray, quotas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where half or fewer are wanted: draws until no two are the same. Returns (owner, rank) rows."""
    owner = np.repeat(owners, quotas[owners])
    totals = ranks.combinations(sizes)
    offsets = np.cumsum(totals) - totals
    rank = rng.integers(totals[owner])
    while True:
        repeats = ranks.occurrences(offsets[owner] + rank) > 0
        if not repeats.any():
            return np.stack([owner, rank])
        rank[repeats] = rng.integers(totals[owner[repeats]])
