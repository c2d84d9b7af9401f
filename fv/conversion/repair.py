"""More impostor pairs where the images with room have no unused pair left among them."""

import numpy as np

from fv.conversion.caps import Room

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
