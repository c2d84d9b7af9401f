"""Genuine pairs: two images of one identity."""

import numpy as np

from fv.conversion import ranks
from fv.conversion.caps import Caps


def count_available(sizes: np.ndarray, caps: Caps) -> int:
    """Number of genuine pairs that there can be under the caps.

    Args:
      sizes: int64, images of each identity.
      caps: most pairs of one identity and of one image.
    """
    return int(_available(sizes, caps).sum())


def sample_genuine(
    sizes: np.ndarray, count: int, caps: Caps, rng: np.random.Generator
) -> np.ndarray:
    """Draws different genuine pairs; identities share them in proportion to the pairs each may give.

    Images are numbered 0 … sum(sizes) − 1 with those of one identity in a row.

    Args:
      sizes: int64, images of each identity.
      count: number of pairs, at most `count_available(sizes, caps)`.
      caps: most pairs of one identity and of one image.
      rng: source of randomness.

    Returns:
      int64 array of shape (count, 2), the lower image first.
    """
    quotas = _draw_quotas(_available(sizes, caps), count, rng)
    owner = np.repeat(np.arange(len(sizes)), quotas)
    number = np.arange(count) - np.repeat(np.cumsum(quotas) - quotas, quotas)
    places = np.stack(_round_robin(sizes[owner], number), axis=1)
    places += (np.cumsum(sizes) - sizes)[owner, None]
    shuffled = np.lexsort(
        (rng.random(sizes.sum()), np.repeat(np.arange(len(sizes)), sizes))
    )  # within each identity
    return np.sort(shuffled[places], axis=1)


def _available(sizes: np.ndarray, caps: Caps) -> np.ndarray:
    """Most pairs of each identity: so many whole rounds of the tournament as an image may take part in."""
    rounds = np.where(caps.image >= sizes - 1, _rounds(sizes), caps.image)
    return np.minimum(caps.identity, sizes // 2 * rounds)


def _draw_quotas(available: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """How many pairs each identity gives, as if `count` were drawn from all that the caps allow."""
    edges = np.cumsum(available)
    chosen = ranks.distinct_integers(int(edges[-1]), count, rng)
    return np.bincount(np.searchsorted(edges, chosen, side="right"), minlength=len(available))


def _rounds(sizes: np.ndarray) -> np.ndarray:
    """Rounds in which everybody meets everybody: one less than there are, or as many where one has to sit out each time."""
    return sizes - 1 + sizes % 2


def _round_robin(sizes: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two places, in [0, size), of each numbered game of a round-robin tournament.

    The first r rounds hold no game twice and at most r of anybody: a quota of pairs needs no memory of earlier ones.
    Source: the circle method, with everybody but the last of an even number on a circle of m places: in round r, the place r
    meets the last one, and r + k meets r − k, modulo m.
    """
    circle = _rounds(sizes)
    turn, game = np.divmod(number, np.maximum(1, sizes // 2))
    step = game + sizes % 2  # in an odd number the place r sits out
    second = np.where(step == 0, sizes - 1, (turn - step) % np.maximum(1, circle))
    return (turn + step) % np.maximum(1, circle), second
