"""Intervals of the figures by resampling people: pairs that share a person are not independent, people are.

The vertex bootstrap (Snijders and Borgatti, Non-parametric standard errors and tests for network statistics, Connections 22,
1999), which Fogliato, Patil and Perona recommend for 1:1 matching (Confidence intervals for error rates in 1:1 matching
tasks, IJCV 2024). People are drawn with replacement, as many as there are. A genuine pair counts as often as its person was
drawn, an impostor pair as often as the one times the other: a pair of two copies of one person is no impostor pair.
"""

import dataclasses
from collections.abc import Sequence
from concurrent import futures

import numpy as np

from fv import metrics, workers

CONFIDENCE = 0.95
_FEWEST_VALID = 0.5  # of the samples; with fewer there is no interval

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How often people are drawn, and the seed of the draws."""

    samples: int
    seed: int


def intervals(
    similarities: np.ndarray,
    labels: np.ndarray,
    right: np.ndarray,
    people: np.ndarray,
    fars: Sequence[float],
    plan: Plan,
) -> dict[str, Interval | dict[str, Interval | None] | None]:
    """Percentile intervals of accuracy, AUC, EER and TAR at each FAR; thresholds stay as they were chosen.

    Args:
      similarities: floating [n].
      labels: int [n].
      right: bool [n], whether a pair is decided rightly.
      people: int [n, 2], numbers of the people of each pair, from 0.
      fars: where TAR is measured.
      plan: the draws.

    Returns:
      `accuracy`, `auc`, `eer` and `tar_at_far` (FAR as text) with (lower, upper) each; None where it cannot be measured.
    """
    rows = _sample_figures(_Sorted(similarities, labels, right, people), fars, plan)
    found = [
        _interval(column) for column in np.array(rows, np.float64).reshape(-1, 3 + len(fars)).T
    ]
    named = dict(zip(("accuracy", "auc", "eer"), found, strict=False))
    return named | {
        "tar_at_far": {
            str(float(far)): interval for far, interval in zip(fars, found[3:], strict=True)
        }
    }


class _Sorted:
    """Pairs by class, each by falling similarity, and the points of the ROC curve as counts of them."""

    def __init__(
        self, similarities: np.ndarray, labels: np.ndarray, right: np.ndarray, people: np.ndarray
    ):
        self.people = int(people.max()) + 1
        curve = metrics.roc(similarities, labels)
        order = np.argsort(similarities)[::-1]
        genuine, impostor = (order[labels[order] == label] for label in (1, 0))
        people = people.astype(np.int32)
        self.person, self.right_genuine = people[genuine, 0], right[genuine].astype(np.int32)
        self.one, self.other = people[impostor, 0], people[impostor, 1]
        self.right_impostor = right[impostor].astype(np.int32)
        points = curve.outline()
        self.thresholds = curve.thresholds[points]
        self.genuine_accepted, self.impostors_accepted = (
            curve.genuine_accepted[points],
            curve.impostors_accepted[points],
        )

    def weigh(self, drawn: np.ndarray) -> tuple[float, metrics.Roc] | None:
        """Accuracy and curve where person i counts drawn[i] times; None where a class is empty."""
        genuine, impostor = drawn[self.person], drawn[self.one] * drawn[self.other]
        accepted, wrongly = (
            _cumulate(genuine, self.genuine_accepted),
            _cumulate(impostor, self.impostors_accepted),
        )
        if not (accepted[-1] and wrongly[-1]):
            return None
        right = int(genuine @ self.right_genuine) + int(impostor @ self.right_impostor)
        return right / int(accepted[-1] + wrongly[-1]), metrics.Roc(
            self.thresholds, accepted, wrongly
        )


def _sample_figures(pairs: _Sorted, fars: Sequence[float], plan: Plan) -> list[list[float]]:
    """Accuracy, AUC, EER and the TARs of each sample; NaN where they cannot be measured."""

    def measure(sample: int) -> list[float]:
        rng = np.random.default_rng((plan.seed, sample))
        drawn = np.bincount(
            rng.integers(pairs.people, size=pairs.people), minlength=pairs.people
        ).astype(np.int32)
        weighed = pairs.weigh(drawn)
        if not weighed:
            return [np.nan] * (3 + len(fars))
        accuracy, curve = weighed
        tars = [curve.tar_at_far(far).tar for far in fars]
        return [
            accuracy,
            curve.auc(),
            curve.eer(),
            *(np.nan if tar is None else tar for tar in tars),
        ]

    with futures.ThreadPoolExecutor(workers.cores()) as pool:
        return list(pool.map(measure, range(plan.samples)))


def _cumulate(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sum of the first `count` weights for each of the counts, int64."""
    return np.pad(np.cumsum(weights, dtype=np.int64), (1, 0))[counts]


def _interval(values: np.ndarray) -> Interval | None:
    valid = values[np.isfinite(values)]
    if len(valid) == 0 or len(valid) < _FEWEST_VALID * len(values):
        return None
    outside = 50 * (1 - CONFIDENCE)  # percent on either side
    return tuple(float(value) for value in np.percentile(valid, (outside, 100 - outside)))
