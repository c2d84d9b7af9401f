"""Accuracy on parts of the pairs: how the verifier does on dark, blurred, small images, and on people with few of them."""

import dataclasses

import numpy as np

from fv.evaluation.describing import Description
from fv.evaluation.pair_set import PairSet

_PARTS = 4  # of as equal a number of pairs as the values allow
_FEW_IMAGES = (1, 2, 3, 5, 10, 20)  # where the parts begin by images of a person


@dataclasses.dataclass(frozen=True)
class Slice:
    """Pairs from `low` to `high`, both included: their number, how many are genuine, and the share decided rightly."""

    low: float
    high: float
    pairs: int
    genuine: int
    accuracy: float


def cut(pairs: PairSet, found: Description, right: np.ndarray) -> dict[str, list[Slice]]:
    """Cuts the pairs by each of four values; a pair has the lower value of its two images.

    Args:
      pairs: the pairs.
      found: descriptions of their images.
      right: bool [n], whether a pair was decided rightly.

    Returns:
      By what is measured, slices by rising value; the same thresholds decided all of them.
    """
    lower = {
        "images of the person": pairs.images.of_identity,
        "brightness (mean grey level, 0 to 255)": found.brightness,
        "sharpness (variance of the Laplacian)": found.sharpness,
        "shorter side of the stored image (pixels)": found.side,
    }
    cuts = {}
    for name, values in lower.items():
        of_pair = np.minimum(values[pairs.first], values[pairs.second])
        starts = (
            _FEW_IMAGES
            if values is pairs.images.of_identity
            else np.quantile(of_pair, np.arange(_PARTS) / _PARTS)
        )
        cuts[name] = _cut(of_pair, np.unique(starts), pairs.labels, right)
    return cuts


def _cut(
    values: np.ndarray, starts: np.ndarray, labels: np.ndarray, right: np.ndarray
) -> list[Slice]:
    part = np.searchsorted(starts, values, side="right")
    members = [np.flatnonzero(part == number) for number in np.unique(part)]
    return [
        Slice(
            float(values[inside].min()),
            float(values[inside].max()),
            len(inside),
            int(labels[inside].sum()),
            float(right[inside].mean()),
        )
        for inside in members
    ]
