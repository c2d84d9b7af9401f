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

# The ROC curve of labelled pairs: what a verifier accepts at every threshold, and the figures
# that are read off it.
#
# `roc` sorts the pairs once and every figure is read off its counts, so none depends on the order
# of ties.

_OUTLINE_POINTS = 4096  # at most: as many over its length as at its ends


@dataclasses.dataclass(frozen=True)
class TarAtFar:
    """The best operating point under a limit on FAR, with the counts behind it.

    `tar`, `threshold` and the accepted counts are None where the limit is not measurable: it lies under one impostor pair.
    """

    far: float
    tar: float | None
    threshold: float | None
    genuine_accepted: int | None
    genuine: int
    impostors_accepted: int | None
    impostors: int


@dataclasses.dataclass(frozen=True, eq=False)
class Roc:
    """What a verifier accepts at every threshold that changes a decision, strictest first.

    Attributes:
      thresholds: floating [m + 1], +inf (nothing is accepted), then the m distinct similarities, falling.
      genuine_accepted: int64 [m + 1], genuine pairs accepted at each threshold, 0 to `genuine`.
      impostors_accepted: int64 [m + 1], impostor pairs accepted at each threshold, 0 to `impostors`.
    """

    thresholds: np.ndarray
    genuine_accepted: np.ndarray
    impostors_accepted: np.ndarray

    @property
    def genuine(self) -> int:
        """Number of genuine pairs."""
        return int(self.genuine_accepted[-1])

    @property
    def impostors(self) -> int:
        """Number of impostor pairs."""
        return int(self.impostors_accepted[-1])

    @property
    def far(self) -> np.ndarray:
        """False accept rate, float64 [m + 1], 0 to 1, never falling."""
        return self.impostors_accepted / self.impostors

    @property
    def tar(self) -> np.ndarray:
        """True accept rate, float64 [m + 1], 0 to 1, never falling."""
        return self.genuine_accepted / self.genuine

    def best_threshold(self) -> float:
        """The threshold with the highest accuracy, half-way between two neighbouring similarities.

        Of equally accurate thresholds it is the one where FAR and FRR differ least, and of those the highest, so the order
        of the pairs never matters. Where accepting every pair is best it is the lowest similarity; where accepting none is,
        the next number above the highest. Accuracy counts pairs, so with unequal classes the threshold favours the larger
        one: choose it on balanced pairs, and never on the pairs that it is then scored on.

        Returns:
          A finite number that splits the pairs alike in the precision of `thresholds` and in float64.
        """
        correct = self.genuine_accepted + self.impostors - self.impostors_accepted
        best = np.flatnonzero(correct == correct.max())
        return self._threshold_at(best[np.argmin(np.abs(self._imbalance()[best]))])

    def auc(self) -> float:
        """Area under the ROC curve, 0 to 1, by the trapezoidal rule on exact counts.

        It equals the Mann-Whitney statistic U / (genuine × impostors): the chance that a genuine pair is more alike than an
        impostor pair, ties counting 1/2 (Hanley and McNeil, Radiology 143, 1982).
        """
        genuine_on_both_sides = self.genuine_accepted[1:] + self.genuine_accepted[:-1]
        twice_u = int(np.dot(np.diff(self.impostors_accepted), genuine_on_both_sides))
        return twice_u / (2 * self.genuine * self.impostors)

    def eer(self) -> float:
        """Equal error rate, 0 to 1: FAR where FAR and FRR cross.

        Between the two neighbouring points where FAR - FRR changes sign both rates are interpolated linearly, so the EER may
        be a rate that no threshold gives. It lies where the ROC curve, its points joined by lines, meets TAR = 1 - FAR.
        """
        imbalance = self._imbalance()
        after = int(
            np.argmax(imbalance >= 0)
        )  # never 0: where nothing is accepted the imbalance is negative
        before = after - 1
        step = float(-imbalance[before] / (imbalance[after] - imbalance[before]))
        accepted = self.impostors_accepted
        return (
            float(accepted[before] + step * (accepted[after] - accepted[before])) / self.impostors
        )

    def tar_at_far(self, far: float) -> TarAtFar:
        """The largest TAR among the thresholds whose FAR is at most `far`; no rate is interpolated.

        Of the thresholds with that TAR it takes the one that accepts the fewest impostor pairs. A FAR under 1 / impostors is
        not measurable: the pairs can show that none was accepted, but not at which rate.

        Args:
          far: the limit, above 0 and at most 1.

        Raises:
          UserError: `far` lies outside its range.
        """
        if not 0 < far <= 1:
            raise UserError(f"the FAR {far} is not a rate: give one above 0 and at most 1")
        if 1 / self.impostors > far:
            return TarAtFar(float(far), None, None, None, self.genuine, None, self.impostors)
        allowed = int(np.searchsorted(self.far, far, side="right")) - 1
        index = int(np.searchsorted(self.genuine_accepted, self.genuine_accepted[allowed]))
        accepted, impostors_accepted = (
            int(self.genuine_accepted[index]),
            int(self.impostors_accepted[index]),
        )
        tar, threshold = accepted / self.genuine, self._threshold_at(index)
        return TarAtFar(
            float(far), tar, threshold, accepted, self.genuine, impostors_accepted, self.impostors
        )

    def outline(self) -> np.ndarray:
        """Indices of the points that stand for the curve in pictures and samples, rising.

        They are all where there are few, else many over its length, at low FAR, where TAR is read, and at low FRR.
        """
        last = len(self.thresholds) - 1
        even = np.linspace(0, last, min(last + 1, _OUTLINE_POINTS))
        counts = (self.impostors, self.genuine)
        accepted, rejected = (
            np.geomspace(1, max(count, 2), _OUTLINE_POINTS // 2) for count in counts
        )
        low_far = np.searchsorted(self.impostors_accepted, accepted, side="right") - 1
        low_frr = np.searchsorted(self.genuine_accepted, np.maximum(self.genuine - rejected, 0))
        return np.unique(np.concatenate([[0, last], even.astype(np.int64), low_far, low_frr]))

    def _imbalance(self) -> np.ndarray:
        """FAR - FRR in units of 1 / (genuine × impostors), int64 [m + 1]: exact, and rising at every point."""
        genuine_rejected = self.genuine - self.genuine_accepted
        return self.impostors_accepted * self.genuine - genuine_rejected * self.impostors

    def _threshold_at(self, index: int) -> float:
        """A finite threshold that decides as point `index`, half-way to the next lower similarity where there is one."""
        lowest_accepted = self.thresholds[index]
        if index == 0:
            return float(np.nextafter(self.thresholds[1], lowest_accepted))
        if index == len(self.thresholds) - 1:
            return float(lowest_accepted)
        highest_rejected = self.thresholds[index + 1]
        middle = np.sum(
            self.thresholds[index : index + 2] / 2
        )  # of an array, so numpy 1 keeps its precision
        return float(
            middle if middle > highest_rejected else lowest_accepted
        )  # neighbouring numbers have none between


def roc(similarities: np.ndarray, labels: np.ndarray) -> Roc:
    """The receiver operating characteristic, one point per distinct similarity.

    Args:
      similarities: float [n], higher is more alike; any finite range.
      labels: int or bool [n], 1 for a genuine pair and 0 for an impostor pair; both must occur.

    Returns:
      The curve, from nothing accepted to everything accepted, thresholds in the precision of `similarities`.

    Raises:
      UserError: shapes differ, a similarity is not finite, a label is not 0 or 1, or a class is empty.
    """
    similarities, same = check_pairs(similarities, labels)
    order = np.argsort(similarities)[::-1]
    falling = similarities[order]
    last = np.append(
        np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1
    )  # of each run of equal similarities
    genuine_accepted = np.cumsum(same[order], dtype=np.int64)[last]
    return Roc(
        np.pad(falling[last], (1, 0), constant_values=np.inf),
        np.pad(genuine_accepted, (1, 0)),
        np.pad(last + 1 - genuine_accepted, (1, 0)),
    )


def check_pairs(similarities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Checks labelled pairs; arguments and errors as `roc`.

    Returns:
      The similarities, floating [n] in their own precision, and bool [n], true for genuine pairs.
    """
    similarities, labels = np.asarray(similarities), np.asarray(labels)
    if similarities.ndim != 1 or similarities.shape != labels.shape:
        shapes = f"similarities {list(similarities.shape)} and labels {list(labels.shape)}"
        raise UserError(f"{shapes} do not fit: give two vectors of one length")
    if not np.issubdtype(similarities.dtype, np.floating):
        similarities = similarities.astype(np.float64)
    _check_finite(similarities)
    return similarities, _check_labels(labels)


def _check_finite(similarities: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(similarities))
    if len(bad):
        found = f"{len(bad):,} of {len(similarities):,} similarities are not finite"
        raise UserError(
            f"{found}, the first is {similarities[bad[0]]} of pair {bad[0]}: check the model's weights"
        )


def _check_labels(labels: np.ndarray) -> np.ndarray:
    same = labels == 1
    bad = np.flatnonzero(~(same | (labels == 0)))
    if len(bad):
        raise UserError(
            f"the label of pair {bad[0]} is {labels[bad[0]]}: give 1 for a genuine and 0 for an impostor pair"
        )
    if same.all() or not same.any():
        lacking = "genuine" if not same.any() else "impostor"
        raise UserError(
            f"no {lacking} pair among {len(labels):,} pairs: the figures need both genuine and impostor pairs"
        )
    return same


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
    similarities, same = check_pairs(similarities, labels)
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
