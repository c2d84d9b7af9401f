"""Random draws of integers without repetition, and counts of repetitions."""

from typing import NamedTuple

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


def count_earlier_occurrences(values: np.ndarray) -> np.ndarray:
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


# How often one person and one image may be used, so that nobody with many pictures owns the data
# set.

_CANDIDATES_AT_ONCE = 1 << 16  # tried against the caps, so that memory does not grow with them


class Caps(NamedTuple):
    """Most pairs of one label that one identity, and that one image, takes part in."""

    identity: int
    image: int


class Room:
    """What the caps still allow.

    Attributes:
      owner: int64 [images], the identity of each image.
      left: int32, the pairs that each identity, and behind them each image, may still take part in.
    """

    def __init__(self, sizes: np.ndarray, caps: Caps):
        """`sizes` is int64, images of each identity; images are numbered with those of one identity in a row."""
        self.owner = np.repeat(np.arange(len(sizes)), sizes)
        self.left = np.repeat(np.array(caps, np.int32), (len(sizes), len(self.owner)))

    def slots(self, images: np.ndarray) -> np.ndarray:
        """Where in `left` the identities and the images of `images`, int64 [..., n], stand: int64 [..., 2 n]."""
        return np.concatenate(
            [self.owner[images], len(self.left) - len(self.owner) + images], axis=-1
        )

    def of_images(self) -> np.ndarray:
        """For each image, the pairs that it and its identity both allow."""
        identities = len(self.left) - len(self.owner)
        return np.minimum(self.left[:identities][self.owner], self.left[identities:])

    def take(self, images: np.ndarray, times: int = 1) -> None:
        """Counts one pair (or `times`, which may be negative) for each of `images` and its identity."""
        np.subtract.at(self.left, self.slots(images), times)


def take_within_caps(ends: np.ndarray, room: Room, wanted: int) -> np.ndarray:
    """The first of the candidates, int64 [n, 2], that the caps let through, up to `wanted`; takes their room."""
    taken = [ends[:0]]
    for first in range(0, len(ends), _CANDIDATES_AT_ONCE):
        part = ends[first : first + _CANDIDATES_AT_ONCE]
        part = part[_within_caps(room.slots(part), room.left)][:wanted]
        room.take(part)
        taken.append(part)
        wanted -= len(part)
    return np.concatenate(taken)


def _within_caps(slots: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Which candidates, one row of slots each, the caps let through when they come in this order, as a mask."""
    left = left.copy()
    accepted = np.zeros(len(slots), bool)
    live = np.arange(len(slots))
    while len(live):
        places = count_earlier_occurrences(slots[live].ravel())
        fits = (places < left[slots[live].ravel()]).reshape(len(live), -1).all(axis=1)
        accepted[live[fits]] = True
        np.subtract.at(left, slots[live[fits]], 1)
        live = live[~fits]
        live = live[(left[slots[live]] > 0).all(axis=1)]
    return accepted


# More impostor pairs where the images with room have no unused pair left among them.

_FAILURES = 500  # in a row, before the pairs that are missing are given up

Pair = tuple[int, int]


def add_pairs(pairs: np.ndarray, room: Room, count: int, rng: np.random.Generator) -> np.ndarray:
    """Adds impostor pairs as far as it can: a random one gives way to two, each of its people meeting an image with room.

    Args:
      pairs: int64 [n, 2], different impostor pairs, the lower image first.
      room: what the caps still allow beside them.
      count: number of pairs wanted.
      rng: source of randomness.

    Returns:
      int64 [m, 2], n ≤ m ≤ count.
    """
    made: list[Pair] = [tuple(pair) for pair in pairs.tolist()]
    used, failures = set(made), 0
    while made and len(made) < count and failures < _FAILURES:
        free = np.repeat(np.arange(len(room.owner)), room.of_images())
        if len(free) < 2:
            break
        for first, second in rng.permutation(free)[: len(free) // 2 * 2].reshape(-1, 2)[
            : count - len(made)
        ]:
            failures = 0 if _split(int(first), int(second), made, used, room, rng) else failures + 1
    return np.array(made, np.int64).reshape(-1, 2)


def _split(
    first: int, second: int, made: list[Pair], used: set[Pair], room: Room, rng: np.random.Generator
) -> bool:
    """Replaces a random pair by one of its first person with `first` and one of its second with `second`, if it can."""
    place = int(rng.integers(len(made)))
    a, b = (_image_with_room(image, room, rng) for image in made[place])
    new = [(min(pair), max(pair)) for pair in ((first, a), (second, b))]
    same_person = any(room.owner[low] == room.owner[high] for low, high in new)
    if same_person or new[0] == new[1] or new[0] in used or new[1] in used:
        return False
    room.take(np.array(made[place]), -1)
    room.take(np.array(new))
    if (room.left[room.slots(np.array(new))] < 0).any():
        room.take(np.array(new), -1)
        room.take(np.array(made[place]))
        return False
    made[place : place + 1] = new
    used.update(new)
    return True


def _image_with_room(image: int, room: Room, rng: np.random.Generator) -> int:
    """A random image of the same person that may take part in a pair more, or else the image itself."""
    first, end = np.searchsorted(room.owner, [room.owner[image], room.owner[image] + 1])
    other = int(rng.integers(first, end))
    return other if room.left[len(room.left) - len(room.owner) + other] > 0 else image


# Genuine pairs: two images of one identity.


def count_genuine(sizes: np.ndarray, caps: Caps) -> int:
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
    chosen = distinct_integers(int(edges[-1]), count, rng)
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


# Impostor pairs: images of two identities. A pair counts towards the caps of both identities and
# of both images.

_ROOM = 1.2  # candidates drawn for each pair wanted; some repeat a pair or meet a cap
_FEWEST_CANDIDATES = 4_096


def count_impostors(sizes: np.ndarray, caps: Caps) -> int:
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
        ends = take_within_caps(ends, room, count - len(keys))
        keys = np.sort(np.concatenate([keys, ends @ (images, 1)]))
    pairs = np.stack(np.divmod(keys, max(1, images)), axis=1)
    return pairs if len(pairs) == count else add_pairs(pairs, room, count, rng)


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
        distinct_integers(total, total if everything else draws, rng)
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
