"""The pairs of a data set: sampled on arrays of indices, in the wanted shares of labels, capped, none twice."""

import dataclasses
import hashlib
import heapq
import random
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from fv import manifest, record
from fv.conversion import pair_sampling
from fv.conversion.pair_sampling import Caps
from fv.errors import UserError

# Identities to splits, by a seeded hash of the name: adding people never moves the others.

_SMALLEST_FRACTION = 1e-9  # below it a fraction is a rounding error of 1 − val − test
_HASH_BYTES = 8


def split_fractions(val: float, test: float) -> dict[str, float]:
    """The share of identities of each split, of the splits that have any, in the order of `manifest.SPLITS`.

    Raises:
      UserError: the two add up to more than 1.
    """
    train = 1.0 - val - test
    if train < -_SMALLEST_FRACTION:
        raise UserError(
            f"--val_fraction={val} and --test_fraction={test} add up to more than 1: lower one of them"
        )
    shares = dict(zip(manifest.SPLITS, (train, val, test), strict=True))
    return {name: share for name, share in shares.items() if share > _SMALLEST_FRACTION}


def assign_splits(identities: Iterable[str], shares: Mapping[str, float], seed: int) -> np.ndarray:
    """The split of each identity.

    An identity's place in [0, 1) is a hash of the seed and its name; test lies lowest, then val, then train, so a change of
    --val_fraction moves nobody between train and test.

    Args:
      identities: names.
      shares: from `fractions`.
      seed: the conversion's seed.

    Returns:
      An array of split names, one per identity.
    """
    names = [name for name in reversed(manifest.SPLITS) if name in shares]
    edges = np.cumsum([shares[name] for name in names])[:-1]
    places = np.array([_place(name, seed) for name in identities])
    return np.array(names, object)[np.searchsorted(edges, places, side="right")]


def require_two_identities(counts: Mapping[str, int]) -> None:
    """Checks that each split can hold an impostor pair.

    Args:
      counts: identities of each split.

    Raises:
      UserError: a split has fewer than two.
    """
    for name, count in counts.items():
        if count < 2:
            raised = "" if name == "train" else f"raise --{name}_fraction, "
            raise UserError(
                f"the {name} split got {count} of {sum(counts.values())} identities and needs two: "
                f"{raised}{advise_on_split(name, counts)}, or try another --seed"
            )


def advise_on_split(name: str, names: Iterable[str]) -> str:
    """How a user goes without a split, or, since it has no flag of its own, gives train more identities.

    Args:
      name: of the split.
      names: those of all splits; where train is the only one it has all identities, and the answer is empty.
    """
    if name != "train":
        return f"set --{name}_fraction=0"
    return " or ".join(f"lower --{other}_fraction" for other in names if other != "train")


def _place(name: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:_HASH_BYTES], "big") / 256**_HASH_BYTES


# A sample of records that pass by, however many they are.


class PairSample:
    """Keeps as many genuine and impostor pairs as wanted; each of either label that came is as likely to be among them."""

    def __init__(self, count: int, seed: int):
        """`count` pairs in all, half of them genuine; the same seed and the same records give the same sample."""
        self._wanted = {record.GENUINE: count - count // 2, record.IMPOSTOR: count // 2}
        self._kept = {
            label: [] for label in self._wanted
        }  # heaps of (−draw, −number of the record, record)
        self._random = random.Random(seed)
        self._seen = 0

    def add(self, pair: dict[str, bytes | int]) -> None:
        """Takes in what `record.decode_pair` gave; memory holds no more than the wanted pairs."""
        kept, draw = self._kept[pair[record.LABEL]], self._random.random()
        self._seen += 1
        if len(kept) < self._wanted[pair[record.LABEL]]:
            heapq.heappush(kept, (-draw, -self._seen, pair))
        elif kept and draw < -kept[0][0]:
            heapq.heapreplace(kept, (-draw, -self._seen, pair))

    def pairs(self) -> list[dict[str, bytes | int]]:
        """The sample, genuine pairs first, those of a label in the order in which they came."""
        return [
            pair
            for kept in self._kept.values()
            for _, _, pair in sorted(kept, key=lambda entry: -entry[1])
        ]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What to sample: pairs over all splits (None for all that the caps allow), the share of genuine ones, and the caps."""

    total: int | None
    genuine_fraction: float
    caps: Caps


@dataclasses.dataclass(frozen=True)
class Quota:
    """Pairs of each label."""

    genuine: int
    impostor: int


def plan_quotas(images: pd.DataFrame, wanted: Wanted) -> dict[str, Quota]:
    """How many pairs of each label each split gets.

    A split can give as many of each label as the caps allow, in the wanted shares. `wanted.total` is shared among the splits
    in proportion to that, each label by largest remainders.

    Args:
      images: table with columns `split` and `identity` (both categorical).
      wanted: what to sample.

    Returns:
      The quota of each split.

    Raises:
      UserError: the total cannot be cut into the wanted shares, is more than there is, or too few to reach every split; or
        a split can have no pair.
    """
    available = {name: _available(sizes, wanted) for name, sizes in _sizes_by_split(images).items()}
    for name, quota in available.items():
        if not quota.genuine or not quota.impostor:
            _refuse_without_pairs(name, images, wanted)
    if wanted.total is None:
        return available
    genuines = {name: quota.genuine for name, quota in available.items()}
    impostors = {name: quota.impostor for name, quota in available.items()}
    count = min(round(wanted.total * wanted.genuine_fraction), sum(genuines.values()))
    _require_possible(
        wanted, count, sum(genuines.values()) + sum(impostors.values()), len(available)
    )
    genuines, impostors = _apportion(genuines, count), _apportion(impostors, wanted.total - count)
    return {name: Quota(genuines[name], impostors[name]) for name in available}


def sample_pairs(
    images: pd.DataFrame, quotas: Mapping[str, Quota], wanted: Wanted, seed: int
) -> dict[str, pd.DataFrame]:
    """Samples the pairs of every split.

    Args:
      images: table with columns `split` and `identity` (both categorical); its index numbers the images.
      quotas: from `plan_quotas`.
      wanted: as in `plan_quotas`; without a total, a split whose impostor pairs fall short takes fewer genuine ones.
      seed: the conversion's seed.

    Returns:
      By split, a table with columns `a`, `b` (index of an image, int32) and `label` (int8).

    Raises:
      UserError: the caps leave fewer impostor pairs than the total asks for.
    """
    tables = {}
    for name, quota in quotas.items():
        members = images[images["split"] == name]
        tables[name] = _sample_split(members, quota, wanted, random_generator(seed, name, "pairs"))
        found = int((tables[name]["label"] == record.IMPOSTOR).sum())
        if wanted.total is not None and found < quota.impostor:
            raise UserError(
                f"only {found:,} of {quota.impostor:,} impostor pairs of the {name} split fit: lower --pairs={wanted.total} "
                f"or raise --max_pairs_per_identity or --max_pairs_per_image"
            )
    return tables


def random_generator(seed: int, *names: str) -> np.random.Generator:
    """A random generator of its own for the seed and the names, the same on every machine."""
    return np.random.default_rng([seed, *"/".join(names).encode()])


def _sample_split(
    members: pd.DataFrame, quota: Quota, wanted: Wanted, rng: np.random.Generator
) -> pd.DataFrame:
    """Samples a split's pairs, each pair's images in random order."""
    members = members.sort_values("identity", kind="stable")
    sizes = _sizes(members)
    impostors = pair_sampling.sample_impostors(sizes, quota.impostor, wanted.caps, rng)
    count = (
        quota.genuine
        if len(impostors) == quota.impostor
        else _in_proportion(len(impostors), wanted.genuine_fraction)
    )
    genuines = pair_sampling.sample_genuine(sizes, count, wanted.caps, rng)
    labels = np.repeat(
        np.array([record.GENUINE, record.IMPOSTOR], np.int8), [len(genuines), len(impostors)]
    )
    ends = members.index.to_numpy(np.int32)[np.concatenate([genuines, impostors])]
    swapped = rng.random(len(ends)) < 0.5
    ends[swapped] = ends[swapped, ::-1]
    return pd.DataFrame({"a": ends[:, 0], "b": ends[:, 1], "label": labels})


def _available(sizes: np.ndarray, wanted: Wanted) -> Quota:
    """Most pairs of each label, in the wanted shares."""
    genuines = pair_sampling.count_genuine(sizes, wanted.caps)
    impostors = pair_sampling.count_impostors(sizes, wanted.caps)
    share = wanted.genuine_fraction
    if genuines * (1.0 - share) <= impostors * share:
        return Quota(genuines, min(impostors, round(genuines * (1.0 - share) / share)))
    return Quota(min(genuines, _in_proportion(impostors, share)), impostors)


def _in_proportion(impostors: int, share: float) -> int:
    """Genuine pairs beside so many impostor pairs."""
    return round(impostors * share / (1.0 - share))


def _sizes_by_split(images: pd.DataFrame) -> dict[str, np.ndarray]:
    return {
        name: _sizes(images[images["split"] == name]) for name in images["split"].cat.categories
    }


def _sizes(members: pd.DataFrame) -> np.ndarray:
    """Images of each identity that has any, in the order of the names."""
    counts = np.bincount(members["identity"].cat.codes)
    return counts[counts > 0].astype(np.int64)


def _refuse_without_pairs(name: str, images: pd.DataFrame, wanted: Wanted) -> None:
    names = images["split"].cat.categories
    ways = [way for way in ("add images", advise_on_split(name, names)) if way]
    if pair_sampling.count_genuine(_sizes_by_split(images)[name], wanted.caps):
        lacking = "impostor" if wanted.genuine_fraction > 0.5 else "genuine"
        what = f"--genuine_fraction={wanted.genuine_fraction} leaves no {lacking} pair in the {name} split"
        ways.insert(0, "give --genuine_fraction=0.5")
    else:
        what = f"no identity of the {name} split has two images"
        ways += ["try another --seed"] if len(names) > 1 else []
    raise UserError(f"{what}: {', or '.join(ways)}")


def _require_possible(wanted: Wanted, genuines: int, most: int, splits: int) -> None:
    total, caps = wanted.total, wanted.caps
    if wanted.genuine_fraction == 0.5 and total % 2:
        raise UserError(
            f"--pairs={total} is odd, and half of the pairs are genuine, half impostor: give an even number"
        )
    if total > most:
        raise UserError(
            f"--pairs={total} asks for more than the {most} pairs there are with at most {caps.identity} of each label to "
            f"an identity and {caps.image} to an image: lower --pairs, add images, or raise --max_pairs_per_identity or "
            f"--max_pairs_per_image"
        )
    if min(genuines, total - genuines) < splits:
        enough = (
            more
            for more in range(total, most + 1)
            if _reaches(more, wanted.genuine_fraction, splits)
        )
        way = (
            f"give --pairs={found}"
            if (found := next(enough, None))
            else "give --genuine_fraction=0.5"
        )
        raise UserError(
            f"--pairs={total} is too few for one pair of each label in {splits} splits: {way}"
        )


def _reaches(total: int, share: float, splits: int) -> bool:
    """Whether so many pairs have one of each label for every split, and can be cut into the wanted shares."""
    genuines = round(total * share)
    return min(genuines, total - genuines) >= splits and not (share == 0.5 and total % 2)


def _apportion(available: Mapping[str, int], count: int) -> dict[str, int]:
    """Shares `count` in proportion to `available`, at least one each, by largest remainders, ties in the order of splits."""
    total = sum(available.values())
    shares = {name: max(1, count * each // total) for name, each in available.items()}
    by_remainder = sorted(available, key=lambda name: -(count * available[name] % total))
    for name in by_remainder:
        shares[name] += sum(shares.values()) < count and shares[name] < available[name]
    while sum(shares.values()) > count:
        shares[max(shares, key=shares.get)] -= 1
    return shares
