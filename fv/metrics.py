"""The figures of a verifier: accuracy, ROC, AUC, EER and TAR at a FAR, from the similarities of labelled pairs.

One decision rule holds everywhere: a pair is the same person where similarity >= threshold. TAR (true accept rate, 1 - FRR)
is the share of genuine pairs that are accepted, FAR (false accept rate) that of impostor pairs, as in IJB-A (Klare et al.,
CVPR 2015).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from fv.errors import UserError
from fv.roc import Roc, TarAtFar, check, roc

__all__ = [
    "FARS",
    "Roc",
    "TarAtFar",
    "accuracy",
    "auc",
    "best_threshold",
    "eer",
    "evaluate",
    "roc",
    "tar_at_far",
]

FARS = (0.1, 0.01, 0.001, 0.0001)  # where TAR is reported unless asked otherwise
NARROWEST_RANGE = 1e-6  # of similarities; those that differ by less are taken for one


def accuracy(similarities: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    """Share of pairs that are decided rightly by similarity >= threshold, 0 to 1.

    Raises:
      UserError: as `roc`, or the threshold is not finite.
    """
    similarities, same = check(similarities, labels)
    if not math.isfinite(threshold):
        raise UserError(f"the threshold is {threshold}: give a finite number")
    return float(np.mean((similarities >= float(threshold)) == same))


def best_threshold(similarities: np.ndarray, labels: np.ndarray) -> float:
    """`Roc.best_threshold` of these pairs; arguments and errors as `roc`."""
    return roc(similarities, labels).best_threshold()


def auc(similarities: np.ndarray, labels: np.ndarray) -> float:
    """`Roc.auc` of these pairs; arguments and errors as `roc`."""
    return roc(similarities, labels).auc()


def eer(similarities: np.ndarray, labels: np.ndarray) -> float:
    """`Roc.eer` of these pairs; arguments and errors as `roc`."""
    return roc(similarities, labels).eer()


def tar_at_far(similarities: np.ndarray, labels: np.ndarray, far: float) -> TarAtFar:
    """`Roc.tar_at_far` of these pairs; arguments and errors as `roc`."""
    return roc(similarities, labels).tar_at_far(far)


def evaluate(
    similarities: np.ndarray, labels: np.ndarray, threshold: float, fars: Sequence[float] = FARS
) -> dict:
    """Every figure at once: the top level of metrics.json.

    Args:
      similarities: float [n].
      labels: int or bool [n], 1 for a genuine pair and 0 for an impostor pair.
      threshold: decides accuracy; chosen on other pairs than these.
      fars: where TAR is measured, each above 0 and at most 1.

    Returns:
      `accuracy`, `accuracy_standard_error` (binomial, sqrt(p (1 - p) / n); too small where pairs share people), `threshold`,
      `auc`, `eer`, `tar_at_far` (FAR as text, as in "0.1", to the fields of `TarAtFar`), and the counts `pairs`, `genuine`
      and `impostor`. All values are plain Python.

    Raises:
      UserError: as `roc`, `accuracy` and `Roc.tar_at_far`.
    """
    curve = roc(similarities, labels)
    pairs = curve.genuine + curve.impostors
    rate = accuracy(similarities, labels, threshold)
    return dict(
        accuracy=rate,
        accuracy_standard_error=math.sqrt(rate * (1 - rate) / pairs),
        threshold=float(threshold),
        auc=curve.auc(),
        eer=curve.eer(),
        tar_at_far={str(float(far)): dataclasses.asdict(curve.tar_at_far(far)) for far in fars},
        pairs=pairs,
        genuine=curve.genuine,
        impostor=curve.impostors,
    )
