"""Samples genuine and impostor pairs under caps, on arrays of integers.

In every function, `sizes` is int64, the number of images of each identity. Images are numbered from
0 so that those of one identity are in a row. A pair is a row of two image numbers, the lower first.
"""

from typing import NamedTuple

import numpy as np

_CANDIDATES_AT_ONCE = 1 << 16  # compared with the caps, which bounds the memory
_CANDIDATES_PER_PAIR = 1.2  # some candidates repeat a pair or exceed a cap
_FEWEST_CANDIDATES = 4_096
_MOST_FAILURES = 500  # attempts in a row that add no pair, before the search for pairs ends

Pair = tuple[int, int]


class Caps(NamedTuple):
    """Most pairs of one label that one identity, and that one image, takes part in."""

    identity: int
    image: int


class Capacity:
    """Counts how many more pairs the caps allow.

    Attributes:
      owner: int64 [images], the identity of each image.
      left: int32 [identities + images], how many more pairs each may be in.
    """

    def __init__(self, sizes: np.ndarray, caps: Caps):
        self.owner = np.repeat(np.arange(len(sizes)), sizes)
        self.left = np.repeat(np.array(caps, np.int32), (len(sizes), len(self.owner)))
        self._identities = len(sizes)

    def slots(self, images: np.ndarray) -> np.ndarray:
        """The indices in `left` of the identities of int64 [..., n] images, and of the images."""
        return np.concatenate([self.owner[images], self._identities + images], axis=-1)

    def of_images(self) -> np.ndarray:
        """Returns for each image the number of pairs that both it and its identity may be in."""
        identities, images = np.split(self.left, [self._identities])
        return np.minimum(identities[self.owner], images)

    def allows(self, image: int) -> bool:
        """Whether an image, whatever its identity, may be in one more pair."""
        return self.left[self._identities + image] > 0

    def take(self, images: np.ndarray, times: int = 1) -> None:
        """Counts `times` pairs, which may be negative, for each of `images` and its identity."""
        np.subtract.at(self.left, self.slots(images), times)


def count_genuine(sizes: np.ndarray, caps: Caps) -> int:
    """Returns the number of genuine pairs that the caps allow."""
    return int(_genuine_per_identity(sizes, caps).sum())


def sample_genuine(
    sizes: np.ndarray, count: int, caps: Caps, rng: np.random.Generator
) -> np.ndarray:
    """Samples different genuine pairs.

    Each identity gets a share of the pairs in proportion to the pairs that it can have.

    Args:
      count: number of pairs, at most `count_genuine(sizes, caps)`.

    Returns:
      int64 [count, 2].
    """
    # The quotas are as if `count` pairs were drawn from all that the caps allow.
    ends = np.cumsum(_genuine_per_identity(sizes, caps))
    drawn = distinct_integers(int(ends[-1]), count, rng)
    quotas = np.bincount(np.searchsorted(ends, drawn, side="right"), minlength=len(sizes))
    owner = np.repeat(np.arange(len(sizes)), quotas)
    number = np.arange(count) - np.repeat(np.cumsum(quotas) - quotas, quotas)
    places = np.stack(_round_robin(sizes[owner], number), axis=1)
    places += (np.cumsum(sizes) - sizes)[owner, None]
    # Places in the tournament go to the images of an identity at random.
    shuffled = np.lexsort((rng.random(sizes.sum()), np.repeat(np.arange(len(sizes)), sizes)))
    return np.sort(shuffled[places], axis=1)


def count_impostors(sizes: np.ndarray, caps: Caps) -> int:
    """Returns the most impostor pairs that the caps allow, to within a few in rare cases.

    Let c be the most pairs that an identity can be in. For any k, the k identities with most images
    are in at most the sum of their c pairs. The pairs among the others are at most half the sum of
    their c, and at most all pairs of their images. Besides, every pair has an image that is not of
    the identity with the largest c.
    """
    sizes = np.sort(sizes)
    limits = np.minimum(caps.identity, sizes * np.minimum(caps.image, sizes.sum() - sizes))
    pairs_of_images = (np.cumsum(sizes) ** 2 - np.cumsum(sizes**2)) // 2
    among_others = np.minimum(np.cumsum(limits) // 2, pairs_of_images)
    of_largest = limits.sum() - np.cumsum(limits)
    without_largest = limits.sum() - limits.max(initial=0)
    return int((among_others + of_largest).min(initial=without_largest))


def sample_impostors(
    sizes: np.ndarray,
    count: int,
    caps: Caps,
    rng: np.random.Generator,
    given: np.ndarray | None = None,
) -> np.ndarray:
    """Samples different impostor pairs, uniformly over the images that the caps allow.

    Args:
      count: number of pairs.
      given: int64 [m, 2], pairs within the caps that count towards `count`.

    Returns:
      int64 [n, 2], with the given pairs; n < `count` only if the caps allow no more.
    """
    capacity = Capacity(sizes, caps)
    images = len(capacity.owner)
    keys = np.empty(0, np.int64)  # lower image · number of images + higher image, sorted
    if given is not None:
        capacity.take(given)
        keys = np.sort(given @ (images, 1))
    exhausted = False
    while len(keys) < count and not exhausted:
        ends, exhausted = _draw_candidates(capacity, count, count - len(keys), rng)
        ends = ends[~_contains(keys, ends @ (images, 1))]
        if not len(ends):
            break
        ends = take_within_caps(ends, capacity, count - len(keys))
        keys = np.sort(np.concatenate([keys, ends @ (images, 1)]))
    pairs = np.stack(np.divmod(keys, max(1, images)), axis=1)
    return pairs if len(pairs) == count else _add_pairs(pairs, capacity, count, rng)


def take_within_caps(ends: np.ndarray, capacity: Capacity, wanted: int) -> np.ndarray:
    """Takes at most `wanted` of the candidates `ends`, int64 [n, 2], in their order.

    They are those that `capacity` allows, which counts them.
    """
    taken = [ends[:0]]
    for first in range(0, len(ends), _CANDIDATES_AT_ONCE):
        part = ends[first : first + _CANDIDATES_AT_ONCE]
        part = part[_within_caps(capacity.slots(part), capacity.left)][:wanted]
        capacity.take(part)
        taken.append(part)
        wanted -= len(part)
    return np.concatenate(taken)


def distinct_integers(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws different integers in [0, total), uniformly and in random order: int64 [count].

    Memory grows with `count`, which is at most `total`, not with `total`.
    """
    if 2 * count > total:
        return rng.permutation(total)[:count]
    drawn = np.empty(0, np.int64)
    while len(drawn) < count:
        missing = count - len(drawn)
        drawn = np.union1d(drawn, rng.integers(total, size=missing + missing // 8 + 16))
    return rng.permutation(drawn)[:count]


def count_earlier_occurrences(values: np.ndarray) -> np.ndarray:
    """Returns how often the value of each element occurs before it, int64."""
    order = np.argsort(values, kind="stable")
    _, starts, lengths = np.unique(values[order], return_index=True, return_counts=True)
    counts = np.empty(len(values), np.int64)
    counts[order] = np.arange(len(values)) - np.repeat(starts, lengths)
    return counts


def _genuine_per_identity(sizes: np.ndarray, caps: Caps) -> np.ndarray:
    """Most pairs of each identity: whole rounds of a tournament, one for each pair of an image."""
    rounds = np.where(caps.image >= sizes - 1, _rounds(sizes), caps.image)
    return np.minimum(caps.identity, sizes // 2 * rounds)


def _rounds(sizes: np.ndarray) -> np.ndarray:
    """Rounds of a tournament; with an odd number of players, one sits out each round."""
    return sizes - 1 + sizes % 2


def _round_robin(sizes: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the two players, in [0, size), of game `number` of a round-robin tournament.

    The first r rounds hold no game twice and at most r games of each player, so that the first
    games of a tournament are distinct pairs within the cap of an image.

    Source: the circle method. All players but the last of an even number are on a circle of m
    places. In round r, the player at place r meets the last one, and r + k meets r − k, modulo m.
    """
    circle = np.maximum(1, _rounds(sizes))
    turn, game = np.divmod(number, np.maximum(1, sizes // 2))
    step = game + sizes % 2  # in an odd number the player at place r sits out
    second = np.where(step == 0, sizes - 1, (turn - step) % circle)
    return (turn + step) % circle, second


def _draw_candidates(
    capacity: Capacity, count: int, wanted: int, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """Draws impostor pairs of images that may be in one more, and says whether these are all."""
    images = np.flatnonzero(capacity.of_images())
    owner = capacity.owner[images]
    later = len(images) - np.searchsorted(owner, owner, side="right")  # images of later identities
    ends = np.cumsum(later)
    total = int(ends[-1]) if len(ends) else 0
    draws = max(int(_CANDIDATES_PER_PAIR * wanted), _FEWEST_CANDIDATES)
    # Above this total, at least half of all pairs are unused, so that few draws are wasted.
    every = total <= 2 * max(count, draws)
    drawn = np.sort(distinct_integers(total, total if every else draws, rng))
    lower = np.searchsorted(ends, drawn, side="right")  # faster on sorted values
    higher = len(images) - (ends[lower] - drawn)
    pairs = np.stack([images[lower], images[higher]], axis=1)
    return pairs[rng.permutation(len(pairs))], every


def _contains(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether each value is in a sorted array; faster than np.isin, which sorts both."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    return ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values


def _within_caps(slots: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Which candidates `Capacity.left` allows if they are taken in this order, bool [candidates].

    `slots` are theirs, int64 [candidates, n], from `Capacity.slots`.
    """
    left = left.copy()
    accepted = np.zeros(len(slots), bool)
    open_rows = np.arange(len(slots))
    while len(open_rows):
        # A candidate fits if its slots suffice for all earlier candidates too.
        earlier = count_earlier_occurrences(slots[open_rows].ravel())
        fits = (earlier < left[slots[open_rows].ravel()]).reshape(len(open_rows), -1).all(axis=1)
        accepted[open_rows[fits]] = True
        np.subtract.at(left, slots[open_rows[fits]], 1)
        open_rows = open_rows[~fits]
        open_rows = open_rows[(left[slots[open_rows]] > 0).all(axis=1)]
    return accepted


def _add_pairs(
    pairs: np.ndarray, capacity: Capacity, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Adds impostor pairs when the images that may be in one more have no unused pair among them.

    A random pair (a, b) and two such images c, d become the two pairs (c, a') and (d, b'), where a'
    and b' are images of the identities of a and b, until there are `count` or no more are found.
    """
    made: list[Pair] = [tuple(pair) for pair in pairs.tolist()]
    used, failures = set(made), 0
    while made and len(made) < count and failures < _MOST_FAILURES:
        free = np.repeat(np.arange(len(capacity.owner)), capacity.of_images())
        if len(free) < 2:
            break
        couples = rng.permutation(free)[: len(free) // 2 * 2].reshape(-1, 2)
        for couple in couples[: count - len(made)].tolist():
            replaced = _replace_pair(couple, made, used, capacity, rng)
            failures = 0 if replaced else failures + 1
    return np.array(made, np.int64).reshape(-1, 2)


def _replace_pair(
    couple: list[int],
    made: list[Pair],
    used: set[Pair],
    capacity: Capacity,
    rng: np.random.Generator,
) -> bool:
    """Replaces a random pair of `made` by two pairs with the images of `couple`, if possible."""
    place = int(rng.integers(len(made)))
    others = [_pick_image(image, capacity, rng) for image in made[place]]
    new = [(min(pair), max(pair)) for pair in zip(couple, others, strict=True)]
    same_person = any(capacity.owner[low] == capacity.owner[high] for low, high in new)
    if same_person or new[0] == new[1] or new[0] in used or new[1] in used:
        return False
    capacity.take(np.array(made[place]), -1)
    capacity.take(np.array(new))
    if (capacity.left[capacity.slots(np.array(new))] < 0).any():
        capacity.take(np.array(new), -1)
        capacity.take(np.array(made[place]))
        return False
    made[place : place + 1] = new
    used.update(new)
    return True


def _pick_image(image: int, capacity: Capacity, rng: np.random.Generator) -> int:
    """A random image of the same person that may be in one more pair, else the image itself."""
    first, end = np.searchsorted(capacity.owner, [capacity.owner[image], capacity.owner[image] + 1])
    other = int(rng.integers(first, end))
    return other if capacity.allows(other) else image
