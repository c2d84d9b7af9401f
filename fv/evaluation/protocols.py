"""Protocols: where the threshold and the probability of each pair come from, which is never the pair itself."""

import dataclasses
import math
from concurrent import futures

import numpy as np

from fv import calibration, metrics, workers
from fv.calibration import Calibration
from fv.errors import UserError
from fv.evaluation.pairs import PairSet


@dataclasses.dataclass(frozen=True)
class Fold:
    """A part of the pairs that is decided by one threshold, chosen on others.

    Attributes:
      pairs: how many are decided.
      accuracy: share of them decided rightly.
      threshold: similarity from which on a pair is the same person.
      calibration: of the probability.
      chosen_on: number of pairs that threshold and calibration come from.
    """

    pairs: int
    accuracy: float
    threshold: float
    calibration: Calibration
    chosen_on: int


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """Pairs with their similarities and the verdicts on them.

    Attributes:
      similarities: floating [n].
      labels: int [n].
      same: bool [n], whether the pair is taken for one person.
      probabilities: float64 [n].
      folds: one for each part.
    """

    similarities: np.ndarray
    labels: np.ndarray
    same: np.ndarray
    probabilities: np.ndarray
    folds: tuple[Fold, ...]

    @property
    def right(self) -> np.ndarray:
        """Which pairs are decided rightly, bool [n]."""
        return self.same == (self.labels == 1)

    @property
    def accuracy(self) -> float:
        """Mean accuracy of the folds, 0 to 1."""
        return float(np.mean([fold.accuracy for fold in self.folds]))

    @property
    def standard_error(self) -> float:
        """Of the accuracy: over folds s / sqrt(k) as in LFW's README, s being their standard deviation; else binomial."""
        if len(self.folds) == 1:
            return math.sqrt(self.accuracy * (1 - self.accuracy) / len(self.labels))
        return float(
            np.std([fold.accuracy for fold in self.folds], ddof=1) / math.sqrt(len(self.folds))
        )

    @property
    def threshold(self) -> float:
        """The threshold, or the mean of the folds'."""
        return float(np.mean([fold.threshold for fold in self.folds]))


def hold_out(
    similarities: np.ndarray, labels: np.ndarray, chosen: np.ndarray, chosen_labels: np.ndarray
) -> Judged:
    """Judges pairs by the threshold of best accuracy and the calibration of other pairs.

    Args:
      similarities: floating [n].
      labels: int [n].
      chosen: floating [m], similarities of the other pairs.
      chosen_labels: int [m].

    Raises:
      UserError: as `metrics.roc`, for either.
    """
    metrics.check_pairs(similarities, labels)
    threshold, fitted = (
        metrics.best_threshold(chosen, chosen_labels),
        calibration.fit(chosen, chosen_labels),
    )
    same = similarities >= threshold
    fold = Fold(len(labels), float(np.mean(same == (labels == 1))), threshold, fitted, len(chosen))
    return Judged(similarities, labels, same, fitted.probability(similarities), (fold,))


def cross_validate(
    similarities: np.ndarray,
    labels: np.ndarray,
    training: list[np.ndarray],
    testing: list[np.ndarray],
) -> Judged:
    """Judges the pairs of each fold by those it may be trained on.

    Args:
      similarities: floating [n].
      labels: int [n].
      training: for each fold, the indices of the pairs that choose for it.
      testing: for each fold, the indices of its own pairs; together all n.

    Raises:
      UserError: the pairs that choose for a fold lack a class, or as `metrics.roc`.
    """
    metrics.check_pairs(similarities, labels)
    same, probabilities = np.zeros(len(labels), bool), np.zeros(len(labels))

    def judge(number: int, others: np.ndarray, own: np.ndarray) -> Fold:
        try:
            threshold = metrics.best_threshold(similarities[others], labels[others])
        except UserError as error:
            raise UserError(
                f"the threshold of fold {number} of {len(testing)} cannot be chosen on the others: {error}; choose it on "
                "other pairs (--threshold_tfrecords, --threshold_pairs or --threshold_scores)"
            ) from error
        fitted = calibration.fit(similarities[others], labels[others])
        same[own], probabilities[own] = (
            similarities[own] >= threshold,
            fitted.probability(similarities[own]),
        )
        right = float(np.mean(same[own] == (labels[own] == 1)))
        return Fold(len(own), right, threshold, fitted, len(others))

    with futures.ThreadPoolExecutor(workers.available_cores()) as pool:
        folds = tuple(pool.map(judge, range(1, len(testing) + 1), training, testing))
    return Judged(similarities, labels, same, probabilities, folds)


def split_folds(pairs: PairSet) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The indices that choose for each fold, and those of the fold.

    A fold's threshold comes from the pairs of the other folds that share no person with it: all of them in LFW's View 2,
    whose folds have people of their own.

    Raises:
      UserError: a fold has no pair.
    """
    people = pairs.people()
    training, testing = [], []
    for fold in range(int(pairs.folds.max()) + 1):
        own = pairs.folds == fold
        if not own.any():
            left = f"fold {fold + 1} of {pairs.name} has no pair left"
            raise UserError(
                f"{left}: mend the images that its pairs lack, or deal other folds by --folds"
            )
        shared = np.isin(people, people[own]).any(axis=1)
        training.append(np.flatnonzero(~own & ~shared))
        testing.append(np.flatnonzero(own))
    return training, testing


def make_folds(pairs: PairSet, count: int, seed: int) -> PairSet:
    """Deals the people to folds at random; a pair goes with its first person.

    Raises:
      UserError: a fold would have no pair.
    """
    people = pairs.people()
    dealt = np.random.default_rng(seed).permutation(
        int(people[:, 0].max()) + 1
    )  # the same whatever the number of folds
    first = dealt[np.unique(people[:, 0])]

    def are_full(folds: int) -> bool:
        return len(np.unique(first % folds)) == folds

    if not are_full(count):
        most = next((folds for folds in range(count - 1, 1, -1) if are_full(folds)), None)
        held = f"the {len(pairs):,} pairs of {len(np.unique(people)):,} people in {pairs.name}"
        advice = (
            f"give --folds={most}" if most else "give more pairs, or choose the threshold on others"
        )
        raise UserError(
            f"--folds={count} leaves a fold without a pair: {held} fill at most {most or 1}; {advice}"
        )
    return dataclasses.replace(pairs, folds=(dealt % count)[people[:, 0]])


def deal_pairs(pairs: int, count: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Deals pairs whose people are unknown to folds at random; returns as `split_folds`.

    Raises:
      UserError: a fold would have no pair.
    """
    if count > pairs:
        advice = f"give --folds={pairs} at most" if pairs > 1 else "give more pairs"
        raise UserError(
            f"--folds={count} leaves a fold without a pair: there are {pairs:,} pairs; {advice}"
        )
    dealt = np.random.default_rng(seed).permutation(pairs) % count
    training, testing = (
        [np.flatnonzero((dealt == fold) == own) for fold in range(count)] for own in (False, True)
    )
    return training, testing


def note_shared(scored: np.ndarray, choosing: np.ndarray) -> str:
    """What a report has to say where some scored pairs choose the threshold too; "" where none does.

    Args:
      scored: uint64 [n], a key of each scored pair.
      choosing: uint64 [m], of each that the threshold is chosen on.
    """
    shared = int(np.count_nonzero(np.isin(scored, choosing)))
    if not shared:
        return ""
    return f"{shared:,} of the {len(scored):,} scored pairs are among those that the threshold was chosen on."
