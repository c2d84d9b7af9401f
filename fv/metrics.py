"""Verification metrics of labelled similarities: accuracy, ROC, AUC, EER and TAR at a FAR.

One decision rule holds everywhere: a pair is the same person if similarity >= threshold. TAR (true
accept rate, 1 - FRR) is the share of genuine pairs that are accepted, FAR (false accept rate) that
of impostor pairs, as in IJB-A (Klare et al., CVPR 2015).
"""

import dataclasses
import math

import numpy as np

from fv.errors import UserError

FARS = (0.1, 0.01, 0.001, 0.0001)  # of TAR at FAR
NARROWEST_RANGE = 1e-6  # similarities that span less count as constant
_SAMPLED_POINTS = 4096  # of a curve along its length, and as many again near its two ends


def evaluate(similarities: np.ndarray, labels: np.ndarray, threshold: float) -> dict:
    """Computes all metrics: the top level of metrics.json.

    Args:
      similarities: float [n].
      labels: int or bool [n], 1 for a genuine pair and 0 for an impostor pair.
      threshold: decides accuracy; it must be chosen on other pairs.

    Returns:
      `accuracy`, `accuracy_standard_error` (binomial, sqrt(p (1 - p) / n), too small if pairs share
      people), `threshold`, `auc`, `eer`, `tar_at_far` (FAR as text such as "0.1" → the fields of
      `TarAtFar`), and the counts `pairs`, `genuine` and `impostor`, as plain Python values.

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
        tar_at_far={str(float(far)): dataclasses.asdict(curve.tar_at_far(far)) for far in FARS},
        pairs=pairs,
        genuine=curve.genuine,
        impostor=curve.impostors,
    )


def accuracy(similarities: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    """Share of pairs that similarity >= threshold decides correctly, 0 to 1.

    Raises:
      UserError: as `roc`, or the threshold is not finite.
    """
    similarities, same = check_pairs(similarities, labels)
    if not math.isfinite(threshold):
        raise UserError(f"the threshold is {threshold}: give a finite number")
    return float(np.mean((similarities >= float(threshold)) == same))


def roc(similarities: np.ndarray, labels: np.ndarray) -> "Roc":
    """Computes the receiver operating characteristic, one point per distinct similarity.

    The pairs are sorted once (Fawcett, An introduction to ROC analysis, 2006). No metric depends
    on the order of tied pairs.

    Args:
      similarities: float [n], higher is more alike; any finite range.
      labels: int or bool [n], 1 for a genuine pair and 0 for an impostor pair; both must occur.

    Returns:
      The curve; its thresholds have the precision of `similarities`.

    Raises:
      UserError: shapes differ, a similarity is not finite, a label is not 0 or 1, or a class is
        empty.
    """
    similarities, same = check_pairs(similarities, labels)
    order = np.argsort(similarities)[::-1]
    falling = similarities[order]
    # the last of each run of equal similarities
    last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    genuine_accepted = np.cumsum(same[order], dtype=np.int64)[last]
    return Roc(
        np.pad(falling[last], (1, 0), constant_values=np.inf),
        np.pad(genuine_accepted, (1, 0)),
        np.pad(last + 1 - genuine_accepted, (1, 0)),
    )


@dataclasses.dataclass(frozen=True)
class TarAtFar:
    """The best operating point under a limit on FAR, with its counts.

    `tar`, `threshold` and the accepted counts are None if the limit is below one impostor pair.
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
    """Accepted pairs at every threshold that changes a decision, strictest first.

    Attributes:
      thresholds: floating [m + 1], +inf (nothing is accepted), then the m distinct similarities,
        falling.
      genuine_accepted: int64 [m + 1], genuine pairs accepted at each threshold, 0 to `genuine`.
      impostors_accepted: int64 [m + 1], impostor pairs accepted at each threshold, 0 to
        `impostors`.
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
        """The threshold of highest accuracy, as in LFW's protocol (Huang et al., TR 07-49, 2007).

        It lies half-way between two neighbouring similarities. Of equally accurate thresholds it is
        the one where FAR and FRR differ least, and of those the highest. It is the lowest
        similarity if accepting every pair is best, and the next number above the highest if
        rejecting every pair is best. Accuracy counts pairs, so choose it on balanced pairs, and
        never on the pairs that it then decides.

        Returns:
          A finite number that decides alike in the precision of `thresholds` and in float64.
        """
        correct = self.genuine_accepted + self.impostors - self.impostors_accepted
        best = np.flatnonzero(correct == correct.max())
        return self._threshold_at(best[np.argmin(np.abs(self._imbalance()[best]))])

    def auc(self) -> float:
        """Area under the ROC curve, 0 to 1, by the trapezoidal rule on exact counts.

        It equals the Mann-Whitney statistic U / (genuine × impostors): the probability that a
        genuine pair is more alike than an impostor pair, where ties count 1/2 (Hanley and McNeil,
        Radiology 143, 1982).
        """
        genuine_on_both_sides = self.genuine_accepted[1:] + self.genuine_accepted[:-1]
        twice_u = int(np.dot(np.diff(self.impostors_accepted), genuine_on_both_sides))
        return twice_u / (2 * self.genuine * self.impostors)

    def eer(self) -> float:
        """Equal error rate, 0 to 1: FAR where it equals FRR (Martin et al., Eurospeech 1997).

        Both rates are interpolated linearly between the two neighbouring points where FAR - FRR
        changes its sign, so the EER may be a rate that no threshold gives.
        """
        imbalance = self._imbalance()
        # never 0: the imbalance is negative where nothing is accepted
        after = int(np.argmax(imbalance >= 0))
        before = after - 1
        step = float(-imbalance[before] / (imbalance[after] - imbalance[before]))
        accepted = self.impostors_accepted
        crossing = float(accepted[before] + step * (accepted[after] - accepted[before]))
        return crossing / self.impostors

    def tar_at_far(self, far: float) -> TarAtFar:
        """The largest TAR of the thresholds whose FAR is at most `far`, without interpolation.

        This is the measure of IJB-A (Klare et al., CVPR 2015). Of the thresholds with that TAR it
        takes the one that accepts the fewest impostor pairs. A FAR below 1 / impostors is not
        measurable.

        Args:
          far: the limit, above 0 and at most 1.

        Raises:
          UserError: `far` is out of range.
        """
        if not 0 < far <= 1:
            raise UserError(f"the FAR {far} is not a rate: give one above 0 and at most 1")
        if 1 / self.impostors > far:
            return TarAtFar(float(far), None, None, None, self.genuine, None, self.impostors)
        allowed = int(np.searchsorted(self.far, far, side="right")) - 1
        index = int(np.searchsorted(self.genuine_accepted, self.genuine_accepted[allowed]))
        accepted = int(self.genuine_accepted[index])
        wrongly_accepted = int(self.impostors_accepted[index])
        tar, threshold = accepted / self.genuine, self._threshold_at(index)
        return TarAtFar(
            float(far), tar, threshold, accepted, self.genuine, wrongly_accepted, self.impostors
        )

    def sample_points(self) -> np.ndarray:
        """Rising indices of the points that represent the curve in plots and bootstrap samples.

        Returns all points of a short curve. Of a long one it returns points along its length, at
        low FAR, where TAR is read, and at low FRR.
        """
        last = len(self.thresholds) - 1
        even = np.linspace(0, last, min(last + 1, _SAMPLED_POINTS))
        accepted, rejected = (
            np.geomspace(1, max(count, 2), _SAMPLED_POINTS // 2)
            for count in (self.impostors, self.genuine)
        )
        low_far = np.searchsorted(self.impostors_accepted, accepted, side="right") - 1
        low_frr = np.searchsorted(self.genuine_accepted, np.maximum(self.genuine - rejected, 0))
        return np.unique(np.concatenate([[0, last], even.astype(np.int64), low_far, low_frr]))

    def _imbalance(self) -> np.ndarray:
        """(FAR - FRR) × genuine × impostors, int64 [m + 1]: exact and rising at every point."""
        genuine_rejected = self.genuine - self.genuine_accepted
        return self.impostors_accepted * self.genuine - genuine_rejected * self.impostors

    def _threshold_at(self, index: int) -> float:
        """A finite threshold that decides as point `index`, half-way to the next lower one."""
        lowest_accepted = self.thresholds[index]
        if index == 0:
            return float(np.nextafter(self.thresholds[1], lowest_accepted))
        if index == len(self.thresholds) - 1:
            return float(lowest_accepted)
        # of an array, so that numpy 1 keeps its precision
        middle = np.sum(self.thresholds[index : index + 2] / 2)
        # adjacent floating-point numbers have no number between them
        return float(middle if middle > self.thresholds[index + 1] else lowest_accepted)


def check_pairs(similarities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Checks labelled similarities; arguments and errors as `roc`.

    Returns:
      The similarities, floating [n] in their own precision, and bool [n], true for genuine pairs.
    """
    similarities, labels = np.asarray(similarities), np.asarray(labels)
    if similarities.ndim != 1 or similarities.shape != labels.shape:
        shapes = f"similarities {list(similarities.shape)} and labels {list(labels.shape)}"
        raise UserError(f"{shapes} do not fit: give two vectors of one length")
    if not np.issubdtype(similarities.dtype, np.floating):
        similarities = similarities.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(similarities))
    if len(bad):
        raise UserError(
            f"{len(bad):,} of {len(similarities):,} similarities are not finite, the first is "
            f"{similarities[bad[0]]} of pair {bad[0]}: check the model's weights"
        )
    same = labels == 1
    bad = np.flatnonzero(~(same | (labels == 0)))
    if len(bad):
        raise UserError(
            f"the label of pair {bad[0]} is {labels[bad[0]]}: give 1 for a genuine and 0 for an "
            "impostor pair"
        )
    if same.all() or not same.any():
        raise UserError(
            f"no {'impostor' if same.any() else 'genuine'} pair among {len(labels):,} pairs: the "
            "metrics need both genuine and impostor pairs"
        )
    return similarities, same
