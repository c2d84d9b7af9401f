"""The pairs of a data set: sampled on arrays of indices, balanced, capped, none twice."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fv import record
from fv.conversion import genuine, impostor
from fv.errors import UserError


def plan_quotas(images: pd.DataFrame, total: int | None, cap: int) -> dict[str, int]:
    """How many genuine pairs, and as many impostor pairs, each split gets.

    A split can give as many of each label as the caps allow of the scarcer one. `total` is shared among the splits in
    proportion to that, by largest remainders.

    Args:
      images: table with columns `split` and `identity` (both categorical).
      total: pairs of both labels over all splits; None for as many as the caps allow.
      cap: most pairs of one label of one identity.

    Returns:
      Pairs of each label, by split.

    Raises:
      UserError: `total` is odd, more than there are, or too few to reach every split; or a split can have no pair.
    """
    available = {name: _count_available(sizes, cap) for name, sizes in _sizes_by_split(images).items()}
    for name, count in available.items():
        if not count:
            raise UserError(f"no identity of the {name} split has two images: add images, or set --{name}_fraction=0")
    if total is None:
        return available
    _require_possible(total, sum(available.values()), len(available), cap)
    return _apportion(available, total // 2)


def sample_pairs(
    images: pd.DataFrame, quotas: Mapping[str, int], total: int | None, cap: int, seed: int
) -> dict[str, pd.DataFrame]:
    """Samples the pairs of every split.

    Args:
      images: table with columns `split` and `identity` (both categorical); its index numbers the images.
      quotas: from `plan_quotas`.
      total: as in `plan_quotas`; where None, a split whose impostor pairs fall short takes fewer genuine ones.
      cap: most pairs of one label of one identity.
      seed: the conversion's seed.

    Returns:
      By split, a table with columns `a`, `b` (index of an image, int64) and `label` (int64).

    Raises:
      UserError: the caps leave fewer impostor pairs than `total` asks for.
    """
    tables = {}
    for name, count in quotas.items():
        members = images[images["split"] == name]
        rng = generator(seed, name, "pairs")
        tables[name] = _sample_split(members, count, cap, rng)
        if total is not None and len(tables[name]) < 2 * count:
            found = len(tables[name]) // 2
            raise UserError(f"only {found:,} of {count:,} impostor pairs of the {name} split fit: lower --pairs={total}")
    return tables


def generator(seed: int, *names: str) -> np.random.Generator:
    """A random generator of its own for the seed and the names, the same on every machine."""
    return np.random.default_rng([seed, *"/".join(names).encode()])


def _sample_split(members: pd.DataFrame, count: int, cap: int, rng: np.random.Generator) -> pd.DataFrame:
    """Samples `count` pairs of each label, or as many as impostor pairs can be had, each pair's images in random order."""
    members = members.sort_values("identity", kind="stable")
    sizes = _sizes(members)
    impostors = impostor.sample_impostors(sizes, count, cap, rng)
    genuines = genuine.sample_genuine(sizes, len(impostors), cap, rng)
    ends = members.index.to_numpy(np.int64)[np.concatenate([genuines, impostors])]
    ends = rng.permuted(ends, axis=1)
    labels = np.repeat([record.GENUINE, record.IMPOSTOR], len(impostors))
    return pd.DataFrame({"a": ends[:, 0], "b": ends[:, 1], "label": labels})


def _count_available(sizes: np.ndarray, cap: int) -> int:
    return min(genuine.count_available(sizes, cap), impostor.count_available(sizes, cap))


def _sizes_by_split(images: pd.DataFrame) -> dict[str, np.ndarray]:
    return {name: _sizes(images[images["split"] == name]) for name in images["split"].cat.categories}


def _sizes(members: pd.DataFrame) -> np.ndarray:
    """Images of each identity that has any, in the order of the names."""
    counts = np.bincount(members["identity"].cat.codes)
    return counts[counts > 0].astype(np.int64)


def _require_possible(total: int, available: int, splits: int, cap: int) -> None:
    if total % 2:
        raise UserError(f"--pairs={total} is odd, and half of the pairs are genuine, half impostor: give an even number")
    if total > 2 * available:
        raise UserError(
            f"--pairs={total} asks for more than the {2 * available} pairs there are with at most {cap} of each label to an "
            f"identity: ask for fewer, raise --max_pairs_per_identity, or add images"
        )
    if total < 2 * splits:
        raise UserError(f"--pairs={total} is too few for {splits} splits: ask for {2 * splits} or more")


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
