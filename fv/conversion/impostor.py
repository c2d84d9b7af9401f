"""Impostor pairs: images of two identities. A pair counts towards the cap of both."""

import numpy as np

from fv.conversion import ranks

_ROOM = 1.2  # candidates drawn for each pair wanted; some repeat a pair or meet a cap
_FEWEST_CANDIDATES = 4_096
_REPAIR_FAILURES = 500  # in a row, before the pairs that are missing are given up


def count_available(sizes: np.ndarray, cap: int) -> int:
    """Most impostor pairs that there can be with at most `cap` to an identity, to within a few in odd cases.

    With c the most pairs each identity can take part in: for any k, the k largest identities give no more than the sum of
    their c, and the others no more than half the sum of theirs, nor more than the pairs of images among them.

    Args:
      sizes: int64, images of each identity.
      cap: most pairs of one identity.
    """
    sizes = np.sort(sizes)  # the k largest stand last
    limits = np.minimum(cap, sizes * (sizes.sum() - sizes))
    among_others = np.minimum(np.cumsum(limits) // 2, (np.cumsum(sizes) ** 2 - np.cumsum(sizes**2)) // 2)
    return int((among_others + limits.sum() - np.cumsum(limits)).min(initial=limits.sum()))


def sample_impostors(sizes: np.ndarray, count: int, cap: int, rng: np.random.Generator) -> np.ndarray:
    """Draws different impostor pairs, each image as likely as any other until its identity meets the cap.

    Args:
      sizes: int64, images of each identity; images are numbered with those of one identity in a row.
      count: number of pairs wanted.
      cap: most pairs of one identity.
      rng: source of randomness.

    Returns:
      int64 array of shape (n, 2), the lower image first; n < `count` only where the caps leave no more.
    """
    owner = np.repeat(np.arange(len(sizes)), sizes)
    remaining = np.full(len(sizes), cap, np.int64)
    keys = np.empty(0, np.int64)  # lower image · number of images + higher image
    last = False
    while len(keys) < count and not last:
        ends, last = _draw_candidates(owner, remaining, count, count - len(keys), rng)
        if not len(ends):
            break
        ends = ends[~np.isin(ends @ (len(owner), 1), keys)]
        ends = ends[_within_caps(owner[ends], remaining)][: count - len(keys)]
        remaining -= np.bincount(owner[ends].ravel(), minlength=len(sizes))
        keys = np.concatenate([keys, ends @ (len(owner), 1)])
    pairs = np.stack(np.divmod(keys, max(1, len(owner))), axis=1)
    return pairs if len(pairs) == count else _repair(pairs, sizes, remaining, count, rng)


def _draw_candidates(
    owner: np.ndarray, remaining: np.ndarray, count: int, wanted: int, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """Pairs of different identities that may still take one, in random order; and whether these are all there are."""
    images = np.flatnonzero(remaining[owner] > 0)
    later = len(images) - np.searchsorted(owner[images], owner[images], side="right")  # images of identities after its own
    edges = np.cumsum(later)
    total = int(edges[-1]) if len(edges) else 0
    draws = max(int(_ROOM * wanted), _FEWEST_CANDIDATES)
    everything = total <= 2 * max(count, draws)  # above it at least half of the pairs are unused, so draws seldom miss
    drawn = ranks.distinct_integers(total, total if everything else draws, rng)
    lower = np.searchsorted(edges, drawn, side="right")
    higher = len(images) - (edges[lower] - drawn)
    return np.stack([images[lower], images[higher]], axis=1), everything


def _within_caps(owners: np.ndarray, remaining: np.ndarray) -> np.ndarray:
    """Which candidates the caps let through, in their order, as a mask; `owners` has shape (n, 2)."""
    remaining = remaining.copy()
    accepted = np.zeros(len(owners), bool)
    live = np.arange(len(owners))
    while len(live):
        places = ranks.occurrences(owners[live].ravel())
        fits = (places < remaining[owners[live].ravel()]).reshape(-1, 2).all(axis=1)
        accepted[live[fits]] = True
        remaining -= np.bincount(owners[live[fits]].ravel(), minlength=len(remaining))
        live = live[~fits]
        live = live[(remaining[owners[live]] > 0).all(axis=1)]
    return accepted


def _repair(pairs: np.ndarray, sizes: np.ndarray, remaining: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Adds pairs where the identities with room have no unused pair left among them, as far as it can.

    One random pair gives way to two: each of its identities meets one that has room, in any of their images.
    """
    owner, starts = np.repeat(np.arange(len(sizes)), sizes), np.cumsum(sizes) - sizes
    made = [tuple(pair) for pair in pairs.tolist()]
    used, failures = set(made), 0
    while made and len(made) < count and remaining.sum() >= 2 and failures < _REPAIR_FAILURES:
        place = int(rng.integers(len(made)))
        roomy = rng.permutation(np.repeat(np.arange(len(sizes)), np.minimum(remaining, 2)))[:2]
        identities = np.stack([roomy, owner[list(made[place])]], axis=1)
        ends = starts[identities] + rng.integers(sizes[identities])
        new = {(int(min(pair)), int(max(pair))) for pair in ends}
        if len(new) < 2 or new & used or (identities[:, 0] == identities[:, 1]).any():
            failures += 1
            continue
        made[place : place + 1] = sorted(new)
        used |= new
        failures = 0
        np.subtract.at(remaining, roomy, 1)
    return np.array(made, np.int64).reshape(-1, 2)
