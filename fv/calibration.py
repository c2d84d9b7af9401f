"""Similarity → the probability that two images show the same person.

Platt scaling, p = sigmoid(slope · similarity + offset), fitted by maximum likelihood with targets held off 0 and 1 (Platt,
Probabilistic Outputs for Support Vector Machines, 1999), by Newton's method with step halving (Lin, Lin and Weng, A Note on
Platt's Probabilistic Outputs, 2007). Two numbers, so some hundred pairs determine them, and the order of scores stays.
"""

import dataclasses

import numpy as np

from fv import metrics

_MOST_STEPS = 100
_TOLERANCE = 1e-10  # of the gradient, per pair
_RIDGE = 1e-12  # of the Hessian, per pair: keeps it invertible
_AT_ONCE = 16_384  # scores of one pass, whose intermediate results stay in the processor's cache
_BINS = 10  # of the calibration error and the reliability curve


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Slope and offset of the probability's logit over similarity; the slope is never below 0."""

    slope: float
    offset: float

    def probability(self, similarities: np.ndarray) -> np.ndarray:
        """Probabilities, float64 [n] in [0, 1], of similarities [n]."""
        return _sigmoid(self.slope * np.asarray(similarities, np.float64) + self.offset)


def fit(similarities: np.ndarray, labels: np.ndarray) -> Calibration:
    """Fits the calibration of labelled pairs; arguments and errors as `metrics.roc`.

    The probability holds where as large a share of the pairs is genuine as here. Scores that are all the same, and those of
    a model that finds strangers more alike than images of one person, say nothing: they get the slope 0, and with it the
    probability that a pair is genuine whatever its score.
    """
    similarities, same = metrics.check_pairs(similarities, labels)
    genuine, impostors = np.count_nonzero(same), np.count_nonzero(~same)
    targets = np.where(same, (genuine + 1) / (genuine + 2), 1 / (impostors + 2))
    similarities = similarities.astype(np.float64)
    slope = offset = 0.0
    if np.ptp(similarities) >= metrics.NARROWEST_RANGE:
        slope, offset = _fit_line(similarities, targets)
    if slope <= 0:
        slope, offset = 0.0, np.log(targets.mean() / (1 - targets.mean()))
    return Calibration(float(slope), float(offset))


def evaluate(
    calibration: Calibration, similarities: np.ndarray, labels: np.ndarray
) -> dict[str, float | int]:
    """`measure` of the probabilities that a calibration gives labelled pairs which did not fit it."""
    return measure(calibration.probability(similarities), labels)


def measure(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
    """How well probabilities [n] agree with what came true, labels [n] of 0 and 1.

    Returns:
      `brier`: mean squared difference of probability and label, 0.25 for a coin (Brier, Monthly Weather Review 78, 1950);
      `log_loss` in nats, 0.69 for a coin; `expected_calibration_error`: mean difference of a bin's mean probability and its
      share of genuine pairs, weighted by the bins' pairs (Naeini, Cooper and Hauskrecht, AAAI 2015); and `pairs`.
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
    """The reliability curve: 10 bins of equal width over [0, 1], those without a pair left out.

    Returns:
      For each bin its `pairs`, their mean `probability` and the share of them that is `genuine`.
    """
    bins, labels = _bins(probabilities), np.asarray(labels, np.float64)
    pairs = np.bincount(bins, minlength=_BINS)
    sums = np.bincount(bins, probabilities, _BINS), np.bincount(bins, labels, _BINS)
    return [
        dict(
            pairs=int(pairs[at]),
            probability=float(sums[0][at] / pairs[at]),
            genuine=float(sums[1][at] / pairs[at]),
        )
        for at in np.flatnonzero(pairs)
    ]


def _bins(probabilities: np.ndarray) -> np.ndarray:
    return np.minimum((probabilities * _BINS).astype(int), _BINS - 1)


def _fit_line(similarities: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Slope and offset; fitted over similarities of mean 0 and deviation 1, where two columns never look like one."""
    mean, deviation = similarities.mean(), similarities.std()
    slope, offset = _maximise((similarities - mean) / deviation, targets)
    return slope / deviation, offset - slope * mean / deviation


def _maximise(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Slope and offset of largest likelihood."""
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
    """The negative log-likelihood of targets under a line over scores, its gradient [2] and its Hessian [2, 2]."""
    loss, gradient, hessian = (
        0.0,
        np.zeros(2),
        np.zeros((2, 2)),
    )  # by sums alone: `@` wakes threads that take longer to come
    for start in range(0, len(scores), _AT_ONCE):
        those, aims = scores[start : start + _AT_ONCE], targets[start : start + _AT_ONCE]
        logits = line[0] * those + line[1]
        probabilities = _sigmoid(logits)
        likelier = np.maximum(probabilities, 1.0 - probabilities)
        loss += np.maximum(logits, 0.0).sum() - np.log(likelier).sum() - (aims * logits).sum()
        errors, spread = probabilities - aims, probabilities * (1.0 - probabilities)
        gradient += ((those * errors).sum(), errors.sum())
        spread_of = those * spread
        mixed = spread_of.sum()
        hessian += (((spread_of * those).sum(), mixed), (mixed, spread.sum()))
    return float(loss), gradient, hessian


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + e^−x), by exponentials of numbers below 0 alone, which never overflow."""
    return np.exp(np.minimum(logits, 0.0)) / (1.0 + np.exp(-np.abs(logits)))
