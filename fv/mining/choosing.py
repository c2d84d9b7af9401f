"""Which pairs to train on: hard ones from images' partners, random ones beside them, within the converter's caps."""

import dataclasses

import numpy as np

from fv.conversion import caps as capping
from fv.conversion import genuine, impostor
from fv.conversion.caps import Caps, Room
from fv.mining.search import NOBODY


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Pairs of one label: how many, the share of mined ones among them, and the most of one identity and one image."""

    count: int
    hard_share: float
    caps: Caps


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Pairs of one label, int64 [m, 2] each, the lower image first, none twice: mined ones, and random ones beside them."""

    hard: np.ndarray
    others: np.ndarray

    @property
    def pairs(self) -> np.ndarray:
        """All of them, the mined ones first."""
        return np.concatenate([self.hard, self.others])


def choose_genuine(
    sizes: np.ndarray, partners: np.ndarray, wanted: Wanted, rng: np.random.Generator
) -> Chosen:
    """Takes genuine pairs, the mined ones first; fewer than wanted where the caps leave no more.

    Args:
      sizes: int64, images of each identity; images are numbered with those of one identity in a row.
      partners: int32 [n, k], of each image, the hardest first, `NOBODY` where there are no more.
      wanted: how many.
      rng: source of randomness.
    """
    caps = wanted.caps._replace(
        identity=2 * wanted.caps.identity
    )  # both ends count, and they are of one identity
    room = Room(sizes, caps)
    hard = capping.take_within_caps(
        by_rounds(partners, rng), room, round(wanted.hard_share * wanted.count)
    )
    others = genuine.sample_genuine(
        sizes, genuine.count_available(sizes, wanted.caps), wanted.caps, rng
    )
    others = others[rng.permutation(len(others))]
    others = _without(others, hard, len(room.owner))
    return Chosen(hard, capping.take_within_caps(others, room, wanted.count - len(hard)))


def choose_impostors(
    sizes: np.ndarray, partners: np.ndarray, wanted: Wanted, rng: np.random.Generator
) -> Chosen:
    """Takes impostor pairs; arguments as in `choose_genuine`."""
    room = Room(sizes, wanted.caps)
    hard = capping.take_within_caps(
        by_rounds(partners, rng), room, round(wanted.hard_share * wanted.count)
    )
    made = impostor.sample_impostors(sizes, wanted.count, wanted.caps, rng, given=hard)
    hard = hard[
        np.isin(_keys(hard, len(room.owner)), _keys(made, len(room.owner)))
    ]  # one may have given way to two others
    return Chosen(hard, _without(made, hard, len(room.owner)))


def by_rounds(partners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every pair of an image and a partner once: first those with some image's hardest partner, then its second, and so on.

    Within a round the order is random, so that no image comes first for its number or for an identity's size.

    Args:
      partners: int32 [n, k].
      rng: source of randomness.

    Returns:
      int64 [m, 2], the lower image first.
    """
    images, ranks = np.nonzero(partners != NOBODY)
    ends = np.sort(np.stack([images, partners[images, ranks].astype(np.int64)], axis=1), axis=1)
    ends = ends[np.lexsort((rng.random(len(ends)), ranks))]
    first = np.unique(_keys(ends, len(partners)), return_index=True)[1]
    return ends[np.sort(first)]


def _without(pairs: np.ndarray, others: np.ndarray, images: int) -> np.ndarray:
    return pairs[~np.isin(_keys(pairs, images), _keys(others, images))]


def _keys(pairs: np.ndarray, images: int) -> np.ndarray:
    return pairs @ (images, 1)
