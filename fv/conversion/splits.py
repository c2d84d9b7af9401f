"""Identities to splits, by a seeded hash of the name: adding people never moves the others."""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from fv import manifest
from fv.errors import UserError

_SMALLEST_FRACTION = 1e-9  # below it a fraction is a rounding error of 1 − val − test
_HASH_BYTES = 8


def fractions(val: float, test: float) -> dict[str, float]:
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


def assign(identities: Iterable[str], shares: Mapping[str, float], seed: int) -> np.ndarray:
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
                f"{raised}{drop_or_enlarge(name, counts)}, or try another --seed"
            )


def drop_or_enlarge(name: str, names: Iterable[str]) -> str:
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
