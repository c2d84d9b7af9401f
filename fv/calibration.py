"""From similarities to decisions: a threshold, and the probability of the same person.

A threshold is chosen on labelled pairs. Platt scaling, p = sigmoid(slope · similarity + offset), is
fitted by maximum likelihood with targets held off 0 and 1 (Platt, Probabilistic Outputs for Support
Vector Machines, 1999), by Newton's method with step halving (Lin, Lin and Weng, A Note on Platt's
Probabilistic Outputs for Support Vector Machines, 2007). It has two parameters, so a few hundred
pairs are enough, and keeps the order of scores.
"""

import dataclasses
import math

import numpy as np

from fv import metrics
from fv.errors import UserError

_MOST_STEPS = 100
_TOLERANCE = 1e-10  # of the gradient, per pair
_RIDGE = 1e-12  # of the Hessian, per pair: keeps it invertible
_BLOCK = 16_384  # scores at once: their intermediate results fit into the processor's cache
_BINS = 10  # of the calibration error and the reliability curve


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Slope (at least 0) and offset of the probability's logit over similarity."""

    slope: float
    offset: float

    def probability(self, similarities: np.ndarray) -> np.ndarray:
        """Probabilities, float64 [n] in [0, 1], of similarities [n]."""
        return _sigmoid(self.slope * np.asarray(similarities, np.float64) + self.offset)


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A threshold with its error rates.

    Attributes:
      threshold: similarity from which on two images show the same person.
      chosen_by: how it was chosen, in words.
      far: share of impostor pairs that are accepted, with its counts.
      frr: share of genuine pairs that are rejected, with its counts.
      split: the pairs that far and frr were measured on. They chose the threshold too, unless the
        user gave it.
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


def fit(similarities: np.ndarray, labels: np.ndarray) -> Calibration:
    """Fits the calibration of labelled pairs; arguments and errors as `metrics.roc`.

    The probability holds for data with the same share of genuine pairs. Constant scores, and scores
    that are higher for impostor pairs, get the slope 0: the probability is then that share.
    """
    similarities, same = metrics.check_pairs(similarities, labels)
    genuine, impostors = np.count_nonzero(same), np.count_nonzero(~same)
    targets = np.where(same, (genuine + 1) / (genuine + 2), 1 / (impostors + 2))
    similarities = similarities.astype(np.float64)
    slope = offset = 0.0
    if np.ptp(similarities) >= metrics.NARROWEST_RANGE:
        # over scores of mean 0 and deviation 1, where the Hessian is well conditioned
        mean, deviation = similarities.mean(), similarities.std()
        slope, offset = _maximise_likelihood((similarities - mean) / deviation, targets)
        slope, offset = slope / deviation, offset - slope * mean / deviation
    if slope <= 0:
        slope, offset = 0.0, np.log(targets.mean() / (1 - targets.mean()))
    return Calibration(float(slope), float(offset))


def measure(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
    """Measures how well probabilities [n] agree with labels [n] of 0 and 1.

    Returns:
      `brier`: mean squared difference of probability and label, 0.25 for a coin (Brier, Monthly
      Weather Review 78, 1950); `log_loss`: mean negative log-likelihood in nats, 0.69 for a coin
      (Good, Rational Decisions, 1952); `expected_calibration_error`: mean difference of a bin's
      mean probability and its share of genuine pairs, weighted by the bins' pairs (Naeini, Cooper
      and Hauskrecht, AAAI 2015); and `pairs`.
    """
    labels = np.asarray(labels, np.float64)
    gaps = np.abs(np.bincount(_bins(probabilities), probabilities - labels, _BINS))
    log_likelihood = np.log(np.where(labels == 1, probabilities, 1 - probabilities).clip(1e-15))
    return dict(
        brier=float(np.mean((probabilities - labels) ** 2)),
        log_loss=float(-log_likelihood.mean()),
        expected_calibration_error=float(gaps.sum() / len(labels)),
        pairs=len(labels),
    )


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, float | int]]:
    """The reliability curve over 10 bins of equal width (Niculescu-Mizil and Caruana, ICML 2005).

    Returns:
      For each bin with pairs: `pairs`, their mean `probability`, and their `genuine` share.
    """
    bins, labels = _bins(probabilities), np.asarray(labels, np.float64)
    pairs = np.bincount(bins, minlength=_BINS)
    probability = np.bincount(bins, probabilities, _BINS)
    genuine = np.bincount(bins, labels, _BINS)
    return [
        dict(
            pairs=int(pairs[at]),
            probability=float(probability[at] / pairs[at]),
            genuine=float(genuine[at] / pairs[at]),
        )
        for at in np.flatnonzero(pairs)
    ]


def choose_threshold(
    similarities: np.ndarray,
    labels: np.ndarray,
    split: str,
    *,
    threshold: float | None,
    target_far: float | None,
    best: float | None = None,
) -> OperatingPoint:
    """Chooses a threshold on labelled pairs, or measures a given one.

    Args:
      similarities: float32 [n].
      labels: int [n], 1 for a genuine pair.
      split: what the pairs are called.
      threshold: a given threshold, if any.
      target_far: the largest share of impostor pairs accepted, if any. With neither, the threshold
        with the best accuracy is chosen.
      best: the threshold with the best accuracy as fv.evaluate chose it on these pairs; found anew
        if None.

    Raises:
      UserError: the pairs are too few for that FAR.
    """
    curve = metrics.roc(similarities, labels)
    if threshold is not None:
        chosen_by = "given by --threshold"
    elif target_far is not None:
        threshold = _threshold_at_far(curve, target_far, split)
        chosen_by = f"most genuine pairs at a FAR of {target_far:g}"
    else:
        threshold, chosen_by = curve.best_threshold() if best is None else best, "best accuracy"
    same = np.asarray(similarities) >= np.float32(threshold)
    genuine = np.asarray(labels) == 1
    accepted, rejected = int(np.sum(same & ~genuine)), int(np.sum(~same & genuine))
    far, frr = accepted / curve.impostors, rejected / curve.genuine
    return OperatingPoint(
        threshold, chosen_by, far, accepted, curve.impostors, frr, rejected, curve.genuine, split
    )


def _bins(probabilities: np.ndarray) -> np.ndarray:
    return np.minimum((probabilities * _BINS).astype(int), _BINS - 1)


def _maximise_likelihood(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Slope and offset, float64 [2], by Newton's method with step halving."""
    line, count = np.zeros(2), len(targets)
    loss, gradient, hessian = _derivatives(line, scores, targets)
    for _ in range(_MOST_STEPS):
        if np.abs(gradient).max() < _TOLERANCE * count:
            break
        step, length = np.linalg.solve(hessian + _RIDGE * count * np.eye(2), gradient), 1.0
        while True:
            tried = line - length * step
            tried_loss, gradient, hessian = _derivatives(tried, scores, targets)
            if tried_loss <= loss or length <= _TOLERANCE:
                break
            length /= 2
        line, loss = tried, tried_loss
    return line


def _derivatives(
    line: np.ndarray, scores: np.ndarray, targets: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """The negative log-likelihood of a line, its gradient [2] and its Hessian [2, 2]."""
    loss, gradient, hessian = 0.0, np.zeros(2), np.zeros((2, 2))
    # sums instead of `@`, whose threads take longer to wake than the block takes
    for start in range(0, len(scores), _BLOCK):
        block, aims = scores[start : start + _BLOCK], targets[start : start + _BLOCK]
        logits = line[0] * block + line[1]
        probabilities = _sigmoid(logits)
        likelier = np.maximum(probabilities, 1.0 - probabilities)
        loss += np.maximum(logits, 0.0).sum() - np.log(likelier).sum() - (aims * logits).sum()
        errors, spread = probabilities - aims, probabilities * (1.0 - probabilities)
        gradient += ((block * errors).sum(), errors.sum())
        weighted = block * spread
        mixed = weighted.sum()
        hessian += (((weighted * block).sum(), mixed), (mixed, spread.sum()))
    return float(loss), gradient, hessian


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + e^−x), from exponentials of numbers up to 0, which never overflow."""
    return np.exp(np.minimum(logits, 0.0)) / (1.0 + np.exp(-np.abs(logits)))


def _threshold_at_far(curve: metrics.Roc, target_far: float, split: str) -> float:
    point = curve.tar_at_far(target_far)
    if point.threshold is None:
        smallest = 1 / point.impostors
        # Two digits, rounded up: a rate that is advised must be measurable.
        unit = 10.0 ** (math.floor(math.log10(smallest)) - 1)
        advised = f"{smallest:.2g}"
        if float(advised) < smallest:
            advised = f"{float(advised) + unit:.2g}"
        raise UserError(
            f"--target_far={target_far:g} cannot be measured: {split} has {point.impostors:,} "
            f"impostor pairs, which can show no rate below {smallest:.2g}; give "
            f"--target_far={advised} or higher, or name shards with more val pairs by --tfrecords"
        )
    return point.threshold
