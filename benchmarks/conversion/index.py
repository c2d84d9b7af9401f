"""Sampling alone at a size that no folder here has: ten million images, fifty million pairs."""

import resource
import time

import numpy as np
import pandas as pd

from benchmarks.conversion.options import BenchmarkOptions
from fv import record
from fv.conversion import pairs
from fv.conversion.caps import Caps

IMAGES_PER_IDENTITY = 10
PAIRS_PER_IDENTITY = 50
CAPS = Caps(identity=100, image=20)


def measure(options: BenchmarkOptions, _: str) -> dict:
    """Seconds, peak memory in GB, and what was checked of the pairs.

    Raises:
      AssertionError: a pair comes twice, a label is wrong, the labels are not balanced, or a cap is exceeded.
    """
    identities = options.index_identities
    owner = np.repeat(np.arange(identities, dtype=np.int32), IMAGES_PER_IDENTITY)
    images = pd.DataFrame(
        {
            "identity": pd.Categorical.from_codes(owner, pd.RangeIndex(identities)),
            "split": pd.Categorical.from_codes(np.zeros(len(owner), np.int8), ["train"]),
        }
    )
    wanted = pairs.Wanted(identities * PAIRS_PER_IDENTITY, 0.5, CAPS)
    start = time.perf_counter()
    table = pairs.sample_pairs(images, pairs.plan_quotas(images, wanted), wanted, options.seed)[
        "train"
    ]
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    _check(table, owner, wanted)
    figures = {
        "images": len(owner),
        "identities": identities,
        "pairs": len(table),
        "seconds": round(seconds),
    }
    return {
        **figures,
        "peak_memory_gb": round(peak / 2**30, 2),
        "checked": "balanced, labels right, none twice, within caps",
    }


def _check(table: pd.DataFrame, owner: np.ndarray, wanted: pairs.Wanted) -> None:
    ends = np.sort(table[["a", "b"]].to_numpy(), axis=1).astype(np.int64)
    keys = np.sort(ends[:, 0] * len(owner) + ends[:, 1])
    assert len(table) == wanted.total and (np.diff(keys) > 0).all(), (
        "a pair is missing or comes twice"
    )
    genuine = (table["label"] == record.GENUINE).to_numpy()
    assert 2 * genuine.sum() == wanted.total, "the labels are not balanced"
    assert ((owner[ends[:, 0]] == owner[ends[:, 1]]) == genuine).all(), "a label is wrong"
    for of_label in (ends[genuine], ends[~genuine]):
        assert np.bincount(of_label.ravel()).max() <= wanted.caps.image, "an image exceeds its cap"
    assert np.bincount(owner[ends[genuine, 0]]).max() <= wanted.caps.identity, (
        "an identity exceeds its cap"
    )
    assert np.bincount(owner[ends[~genuine].ravel()]).max() <= wanted.caps.identity, (
        "an identity exceeds its cap"
    )
