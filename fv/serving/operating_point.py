"""The threshold of an export, and how often it is wrong."""

import dataclasses
import math

import numpy as np

from fv import metrics
from fv.errors import UserError

BEST_ACCURACY = "best accuracy"


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A threshold with the pairs behind it.

    Attributes:
      threshold: similarity from which on two images are the same person.
      chosen_by: how it was chosen, in words.
      far: share of impostor pairs accepted, and the counts behind it.
      frr: share of genuine pairs rejected, and the counts behind it.
      split: the pairs that far and frr were measured on; the threshold was chosen on them too, unless it was given.
    """

    threshold: float
    chosen_by: str
    far: float
    impostors_accepted: int
    impostors: int
    frr: float
    genuine_rejected: int
    genuine: int
    split: str


def choose(
    similarities: np.ndarray,
    labels: np.ndarray,
    split: str,
    *,
    threshold: float | None,
    target_far: float | None,
) -> OperatingPoint:
    """Chooses a threshold on labelled pairs, or measures a given one.

    Args:
      similarities: float32 [n].
      labels: int [n], 1 for a genuine pair.
      split: what the pairs are called.
      threshold: the user's, if any.
      target_far: largest share of impostor pairs accepted, if any; else the threshold has the best accuracy.

    Raises:
      UserError: the pairs are too few for that FAR.
    """
    curve = metrics.roc(similarities, labels)
    if threshold is not None:
        chosen_by = "given by --threshold"
    elif target_far is not None:
        threshold, chosen_by = (
            _at_far(curve, target_far, split),
            f"most genuine pairs at a FAR of {target_far:g}",
        )
    else:
        threshold, chosen_by = curve.best_threshold(), BEST_ACCURACY
    same = np.asarray(similarities) >= np.float32(threshold)
    genuine = np.asarray(labels) == 1
    accepted, rejected = int(np.sum(same & ~genuine)), int(np.sum(~same & genuine))
    far, frr = accepted / curve.impostors, rejected / curve.genuine
    return OperatingPoint(
        threshold, chosen_by, far, accepted, curve.impostors, frr, rejected, curve.genuine, split
    )


def _at_far(curve: metrics.Roc, target_far: float, split: str) -> float:
    point = curve.tar_at_far(target_far)
    if point.threshold is None:
        fewest = f"{split} has {point.impostors:,} impostor pairs, which can show no rate below {1 / point.impostors:.2g}"
        raise UserError(
            f"--target_far={target_far:g} cannot be measured: {fewest}; give --target_far={_round_up(1 / point.impostors)} "
            "or higher, or name shards with more val pairs by --tfrecords"
        )
    return point.threshold


def _round_up(rate: float) -> str:
    """A rate to two digits that is no lower."""
    unit = 10.0 ** (math.floor(math.log10(rate)) - 1)
    text = f"{rate:.2g}"
    return text if float(text) >= rate else f"{float(text) + unit:.2g}"
