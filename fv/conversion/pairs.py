"""Assigns identities to splits, plans the pairs of each split, and samples them."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from fv import manifest, record
from fv.conversion import pair_sampling
from fv.conversion.faces import Faces
from fv.conversion.identities import Finding
from fv.conversion.options import ConvertOptions
from fv.errors import UserError
from fv.preprocessing import Preprocessing

_SMALLEST_FRACTION = 1e-9  # smaller fractions are rounding errors of 1 − val − test
_HASH_BYTES = 8


@dataclasses.dataclass(frozen=True)
class Selection:
    """The images and pairs that a conversion writes, and what it leaves out.

    Attributes:
      images: those in the splits, with columns `path`, `identity` and `split` (categorical) and
        `checking.KEPT_COLUMNS`; the index numbers them.
      tables: by split, its pairs, with columns `a` and `b` (indices of images) and `label`.
      left_out: the images that are not used, with columns `path` and `reason`.
      copies: copies among the sound images, from `duplicates.find_copies`.
      findings: doubts about the identities, from `identities.check`.
      faces: of the images, from `faces.find_faces`; None where they are not aligned.
      preprocessing: how the images are stored.
      root: as `datasets.Catalog.root`.
    """

    images: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    left_out: pd.DataFrame
    copies: pd.DataFrame
    findings: tuple[Finding, ...] = ()
    faces: Faces | None = None
    preprocessing: Preprocessing = Preprocessing()
    root: str = ""


class Quota(NamedTuple):
    """Pairs of each label."""

    genuine: int
    impostor: int


def random_generator(seed: int, *names: str) -> np.random.Generator:
    """Returns a generator for a seed and a purpose; its stream is the same on every machine."""
    return np.random.default_rng([seed, *"/".join(names).encode()])


def split_fractions(val: float, test: float) -> dict[str, float]:
    """Returns the share of identities of each split that is not empty, in `manifest.SPLITS` order.

    Raises:
      UserError: the shares add up to more than 1.
    """
    train = 1.0 - val - test
    if train < -_SMALLEST_FRACTION:
        raise UserError(
            f"--val_fraction={val} and --test_fraction={test} add up to more than 1: "
            "lower one of them"
        )
    shares = dict(zip(manifest.SPLITS, (train, val, test), strict=True))
    return {name: share for name, share in shares.items() if share > _SMALLEST_FRACTION}


def split_images(images: pd.DataFrame, shares: Mapping[str, float], seed: int) -> pd.DataFrame:
    """Adds the column `split` (categorical) to a table with the column `identity` (categorical).

    Raises:
      UserError: a split has fewer than two identities.
    """
    names = images["identity"].unique().sort_values()
    split_of = pd.Series(assign_splits(names, shares, seed), list(names), dtype=object)
    require_two_identities({split: int((split_of == split).sum()) for split in shares})
    # One lookup for each identity, not for each image.
    identity, splits = images["identity"].cat, list(shares)
    codes = pd.Categorical(split_of.reindex(identity.categories), categories=splits).codes
    of_image = pd.Categorical.from_codes(codes[identity.codes], categories=splits)
    return images.assign(split=of_image)


def assign_splits(names: Iterable[str], shares: Mapping[str, float], seed: int) -> np.ndarray:
    """Assigns each identity to a split by a hash of the seed and its name.

    Further identities never move the others. Hashes in [0, 1) are divided in the order test, val,
    train, so that another --val_fraction moves no identity between train and test.
    """
    splits = [name for name in reversed(manifest.SPLITS) if name in shares]
    edges = np.cumsum([shares[name] for name in splits])[:-1]
    digests = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in names]
    places = [int.from_bytes(each[:_HASH_BYTES], "big") / 256**_HASH_BYTES for each in digests]
    return np.array(splits, object)[np.searchsorted(edges, places, side="right")]


def require_two_identities(counts: Mapping[str, int]) -> None:
    """Raises UserError if a split has fewer than two identities, and so no impostor pair."""
    for name, count in counts.items():
        if count < 2:
            raised = "" if name == "train" else f"raise --{name}_fraction, "
            raise UserError(
                f"the {name} split got {count} of {sum(counts.values())} identities and needs two: "
                f"{raised}{_advise_on_split(name, counts)}, or try another --seed"
            )


def plan_quotas(images: pd.DataFrame, chosen: ConvertOptions) -> dict[str, Quota]:
    """Plans the number of pairs of each label in each split.

    A split can have as many pairs as the caps allow, in the wanted shares of the labels. --pairs
    are divided in proportion to that, by largest remainders.

    Raises:
      UserError: there are not so many pairs, too few for every split to get one of each label, or
        an odd number of them cannot be half genuine; or a split can have no pair.
    """
    splits = images["split"].cat.categories
    sizes = {name: _count_images(images[images["split"] == name]) for name in splits}
    available = {name: _available(each, chosen) for name, each in sizes.items()}
    for name, quota in available.items():
        if not quota.genuine or not quota.impostor:
            _refuse_split(name, sizes, chosen)
    if chosen.pairs is None:
        return available
    genuine = {name: quota.genuine for name, quota in available.items()}
    impostor = {name: quota.impostor for name, quota in available.items()}
    most = sum(genuine.values()) + sum(impostor.values())
    count = min(round(chosen.pairs * chosen.genuine_fraction), sum(genuine.values()))
    _require_possible(chosen, chosen.pairs, count, most, len(available))
    genuine, impostor = _apportion(genuine, count), _apportion(impostor, chosen.pairs - count)
    return {name: Quota(genuine[name], impostor[name]) for name in available}


def sample_pairs(images: pd.DataFrame, chosen: ConvertOptions) -> dict[str, pd.DataFrame]:
    """Samples the pairs of every split.

    The index of `images` numbers them, and `split` and `identity` are categorical. Without --pairs,
    a split that has fewer impostor pairs than its quota gets fewer genuine pairs too.

    Returns:
      By split, a table with columns `a` and `b` (indices of images, int32) and `label` (int8).

    Raises:
      UserError: as `plan_quotas`; or the caps leave fewer impostor pairs than --pairs requires.
    """
    tables = {}
    for name, quota in plan_quotas(images, chosen).items():
        members = images[images["split"] == name].sort_values("identity", kind="stable")
        sizes, rng = _count_images(members), random_generator(chosen.seed, name, "pairs")
        impostor = pair_sampling.sample_impostors(sizes, quota.impostor, chosen.caps, rng)
        count, found = quota.genuine, len(impostor)
        if found < quota.impostor:
            if chosen.pairs is not None:
                raise UserError(
                    f"only {found:,} of {quota.impostor:,} impostor pairs of the {name} split fit: "
                    f"lower --pairs={chosen.pairs} or raise --max_pairs_per_identity or "
                    "--max_pairs_per_image"
                )
            count = _genuine_beside(found, chosen.genuine_fraction)
        genuine = pair_sampling.sample_genuine(sizes, count, chosen.caps, rng)
        by_label = {record.GENUINE: genuine, record.IMPOSTOR: impostor}
        tables[name] = make_table(members, by_label, rng)
    return tables


def make_table(
    members: pd.DataFrame, by_label: Mapping[int, np.ndarray], rng: np.random.Generator
) -> pd.DataFrame:
    """Makes the table of pairs of a split, with the two images of a pair in random order.

    Args:
      members: the images of the split; its index numbers them.
      by_label: int64 [n, 2], the places in `members` of each pair's images.
      rng: source of the order.
    """
    labels = np.repeat(np.array(list(by_label), np.int8), [len(each) for each in by_label.values()])
    ends = members.index.to_numpy(np.int32)[np.concatenate(list(by_label.values()))]
    swapped = rng.random(len(ends)) < 0.5
    ends[swapped] = ends[swapped, ::-1]
    return pd.DataFrame({"a": ends[:, 0], "b": ends[:, 1], "label": labels})


def _count_images(members: pd.DataFrame) -> np.ndarray:
    """The number of images of each identity that has any, in the order of the names."""
    counts = np.bincount(members["identity"].cat.codes)
    return counts[counts > 0].astype(np.int64)


def _available(sizes: np.ndarray, chosen: ConvertOptions) -> Quota:
    """Most pairs of each label in the wanted shares."""
    genuine = pair_sampling.count_genuine(sizes, chosen.caps)
    impostor = pair_sampling.count_impostors(sizes, chosen.caps)
    share = chosen.genuine_fraction
    if genuine * (1.0 - share) <= impostor * share:
        return Quota(genuine, min(impostor, round(genuine * (1.0 - share) / share)))
    return Quota(min(genuine, _genuine_beside(impostor, share)), impostor)


def _genuine_beside(impostor: int, share: float) -> int:
    """The number of genuine pairs that give them their share beside so many impostor pairs."""
    return round(impostor * share / (1.0 - share))


def _apportion(available: Mapping[str, int], count: int) -> dict[str, int]:
    """Divides `count` in proportion to `available`, by largest remainders, at least one each."""
    total = sum(available.values())
    shares = {name: max(1, count * each // total) for name, each in available.items()}
    for name in sorted(available, key=lambda name: -(count * available[name] % total)):
        shares[name] += sum(shares.values()) < count and shares[name] < available[name]
    while sum(shares.values()) > count:
        shares[max(shares, key=lambda name: shares[name])] -= 1
    return shares


def _require_possible(
    chosen: ConvertOptions, total: int, genuine: int, most: int, splits: int
) -> None:
    share = chosen.genuine_fraction
    if share == 0.5 and total % 2:
        raise UserError(
            f"--pairs={total} is odd, and half of the pairs are genuine, half impostor: "
            "give an even number"
        )
    if total > most:
        raise UserError(
            f"--pairs={total} asks for more than the {most} pairs there are with at most "
            f"{chosen.caps.identity} of each label to an identity and {chosen.caps.image} to an "
            "image: lower --pairs, add images, or raise --max_pairs_per_identity or "
            "--max_pairs_per_image"
        )
    if min(genuine, total - genuine) < splits:
        step = 2 if share == 0.5 else 1
        enough = (
            more
            for more in range(total, most + 1, step)
            if min(round(more * share), more - round(more * share)) >= splits
        )
        found = next(enough, None)
        way = f"give --pairs={found}" if found else "give --genuine_fraction=0.5"
        raise UserError(
            f"--pairs={total} is too few for one pair of each label in {splits} splits: {way}"
        )


def _refuse_split(name: str, sizes: Mapping[str, np.ndarray], chosen: ConvertOptions) -> None:
    """Raises a UserError that says why a split can have no pair of one of the labels."""
    ways = ["add images", _advise_on_split(name, sizes)]
    if pair_sampling.count_genuine(sizes[name], chosen.caps):
        share = chosen.genuine_fraction
        lacking = "impostor" if share > 0.5 else "genuine"
        what = f"--genuine_fraction={share} leaves no {lacking} pair in the {name} split"
        ways.insert(0, "give --genuine_fraction=0.5")
    else:
        what = f"no identity of the {name} split has two images"
        ways += ["try another --seed"] if len(sizes) > 1 else []
    raise UserError(f"{what}: {', or '.join(filter(None, ways))}")


def _advise_on_split(name: str, splits: Iterable[str]) -> str:
    """How to do without a split, or to give train more identities; "" if train is the only one."""
    if name != "train":
        return f"set --{name}_fraction=0"
    return " or ".join(f"lower --{other}_fraction" for other in splits if other != "train")
