"""Impostor pairs: images of two identities. A pair counts towards the caps of both identities and of both images."""

import numpy as np

from fv.conversion import caps as capping
from fv.conversion import ranks, repair
from fv.conversion.caps import Caps, Room

_ROOM = 1.2  # candidates drawn for each pair wanted; some repeat a pair or meet a cap
_FEWEST_CANDIDATES = 4_096


def count_available(sizes: np.ndarray, caps: Caps) -> int:
    """Most impostor pairs that there can be under the caps, to within a few in odd cases.

    With c the most pairs each identity can take part in: for any k, the k largest identities give no more than the sum of
    their c, and the others no more than half the sum of theirs, nor more than the pairs of images among them; and every pair
    takes an image that is not of the identity with the largest c.

    Args:
      sizes: int64, images of each identity.
      caps: most pairs of one identity and of one image.
    """
    sizes = np.sort(sizes)  # the k largest stand last
    limits = np.minimum(caps.identity, sizes * np.minimum(caps.image, sizes.sum() - sizes))
    among_others = np.minimum(
        np.cumsum(limits) // 2, (np.cumsum(sizes) ** 2 - np.cumsum(sizes**2)) // 2
    )
    return int(
        (among_others + limits.sum() - np.cumsum(limits)).min(
            initial=limits.sum() - limits.max(initial=0)
        )
    )


def sample_impostors(
    sizes: np.ndarray,
    count: int,
    caps: Caps,
    rng: np.random.Generator,
    given: np.ndarray | None = None,
) -> np.ndarray:
    """Draws different impostor pairs, each image as likely as any other until it or its identity meets its cap.

    Args:
      sizes: int64, images of each identity; images are numbered with those of one identity in a row.
      count: number of pairs wanted.
      caps: most pairs of one identity and of one image.
      rng: source of randomness.
      given: pairs within the caps that are there already and count, int64 [m, 2], the lower image first.

    Returns:
      int64 array of shape (n, 2), the lower image first; n < `count` only where the caps leave no more.
    """
    room = Room(sizes, caps)
    images = len(room.owner)
    keys = np.empty(0, np.int64)  # lower image · number of images + higher image, sorted
    if given is not None:
        room.take(given)
        keys = np.sort(given @ (images, 1))
    last = False
    while len(keys) < count and not last:
        ends, last = _draw_candidates(room, count, count - len(keys), rng)
        ends = ends[~_contains(keys, ends @ (images, 1))]
        if not len(ends):
            break
        ends = capping.take_within_caps(ends, room, count - len(keys))
        keys = np.sort(np.concatenate([keys, ends @ (images, 1)]))
    pairs = np.stack(np.divmod(keys, max(1, images)), axis=1)
    return pairs if len(pairs) == count else repair.add_pairs(pairs, room, count, rng)


def _draw_candidates(
    room: Room, count: int, wanted: int, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """Pairs of different identities that may still take one, in random order; and whether these are all there are."""
    images = np.flatnonzero(room.of_images())
    owner = room.owner[images]
    later = len(images) - np.searchsorted(
        owner, owner, side="right"
    )  # images of identities after its own
    edges = np.cumsum(later)
    total = int(edges[-1]) if len(edges) else 0
    draws = max(int(_ROOM * wanted), _FEWEST_CANDIDATES)
    everything = total <= 2 * max(
        count, draws
    )  # above it at least half of the pairs are unused, so draws seldom miss
    drawn = np.sort(
        ranks.distinct_integers(total, total if everything else draws, rng)
    )  # a sorted search is a fast one
    lower = np.searchsorted(edges, drawn, side="right")
    higher = len(images) - (edges[lower] - drawn)
    ends = np.stack([images[lower], images[higher]], axis=1)
    return ends[rng.permutation(len(ends))], everything


def _contains(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which values are in a sorted array, as a mask."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    return ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values
