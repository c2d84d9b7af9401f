"""Protocols: the threshold and the probability of a pair always come from other pairs.

`hold_out` takes them from a second set of pairs, `cross_validate` from the other folds.
"""

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
    """A part of the pairs, decided with one threshold that was chosen on other pairs.

    Attributes:
      pairs: number of decided pairs.
      accuracy: share of them that is decided correctly.
      threshold: a pair is the same person from this similarity on.
      calibration: gives the probability.
      chosen_on: number of pairs that threshold and calibration come from.
    """

    pairs: int
    accuracy: float
    threshold: float
    calibration: Calibration
    chosen_on: int


@dataclasses.dataclass(frozen=True, eq=False)
class Decisions:
    """Scored pairs and the decisions on them.

    Attributes:
      similarities: floating [n].
      labels: int [n].
      same: bool [n], whether the pair is decided to be one person.
      probabilities: float64 [n], that it is.
      folds: the parts with their thresholds; one if all pairs have the same threshold.
    """

    similarities: np.ndarray
    labels: np.ndarray
    same: np.ndarray
    probabilities: np.ndarray
    folds: tuple[Fold, ...]

    @property
    def correct(self) -> np.ndarray:
        """Which pairs are decided correctly, bool [n]."""
        return self.same == (self.labels == 1)

    @property
    def accuracy(self) -> float:
        """Mean accuracy of the folds, 0 to 1."""
        return float(np.mean([fold.accuracy for fold in self.folds]))

    @property
    def standard_error(self) -> float:
        """Standard error of the accuracy.

        Of several folds s / sqrt(k), s being the standard deviation of their accuracies (Huang et
        al., Labeled Faces in the Wild, TR 07-49, 2007); else binomial.
        """
        if len(self.folds) == 1:
            return math.sqrt(self.accuracy * (1 - self.accuracy) / len(self.labels))
        accuracies = [fold.accuracy for fold in self.folds]
        return float(np.std(accuracies, ddof=1) / math.sqrt(len(self.folds)))

    @property
    def threshold(self) -> float:
        """The threshold, or the mean of the folds'."""
        return float(np.mean([fold.threshold for fold in self.folds]))


def hold_out(
    similarities: np.ndarray,
    labels: np.ndarray,
    other_similarities: np.ndarray,
    other_labels: np.ndarray,
) -> Decisions:
    """Decides pairs with the threshold of best accuracy and the calibration of other pairs.

    Args:
      similarities: floating [n].
      labels: int [n].
      other_similarities: floating [m], of the pairs that choose.
      other_labels: int [m].

    Raises:
      UserError: as `metrics.roc`, for either.
    """
    metrics.check_pairs(similarities, labels)
    fold, same, probabilities = _decide(similarities, labels, other_similarities, other_labels)
    return Decisions(similarities, labels, same, probabilities, (fold,))


def cross_validate(
    similarities: np.ndarray,
    labels: np.ndarray,
    training: list[np.ndarray],
    testing: list[np.ndarray],
) -> Decisions:
    """Decides the pairs of each fold with the threshold and calibration of pairs of other folds.

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

    def decide(number: int, others: np.ndarray, own: np.ndarray) -> Fold:
        genuine = int(np.sum(labels[others] == 1))
        if not 0 < genuine < len(others):
            elsewhere = len(labels) - len(own)
            raise UserError(
                f"fold {number} of {len(testing)} has no {'impostor' if genuine else 'genuine'} "
                f"pair to choose its threshold on: {elsewhere - len(others):,} of the "
                f"{elsewhere:,} pairs in other folds share a person with it; give pairs of more "
                "people, or choose the threshold on other pairs by --threshold_tfrecords, "
                "--threshold_pairs or --threshold_scores"
            )
        fold, same[own], probabilities[own] = _decide(
            similarities[own], labels[own], similarities[others], labels[others]
        )
        return fold

    with futures.ThreadPoolExecutor(workers.available_cores()) as pool:
        folds = tuple(pool.map(decide, range(1, len(testing) + 1), training, testing))
    return Decisions(similarities, labels, same, probabilities, folds)


def _decide(
    similarities: np.ndarray,
    labels: np.ndarray,
    other_similarities: np.ndarray,
    other_labels: np.ndarray,
) -> tuple[Fold, np.ndarray, np.ndarray]:
    """Arguments as `hold_out`; returns the fold, `same` bool [n] and probabilities float64 [n]."""
    threshold = metrics.roc(other_similarities, other_labels).best_threshold()
    fitted = calibration.fit(other_similarities, other_labels)
    same = similarities >= threshold
    accuracy = float(np.mean(same == (labels == 1)))
    fold = Fold(len(labels), accuracy, threshold, fitted, len(other_labels))
    return fold, same, fitted.probability(similarities)


def split_folds(pairs: PairSet) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The indices of the pairs that choose for each fold, and of the fold's own pairs.

    The pairs of the other folds that share no person with a fold choose its threshold. In LFW's
    View 2, whose folds have people of their own, these are all. They are all, too, if the people
    are unknown.

    Raises:
      UserError: a fold has no pair.
    """
    people = pairs.people()
    training, testing = [], []
    for fold in range(int(pairs.folds.max()) + 1):
        own = pairs.folds == fold
        if not own.any():
            raise UserError(
                f"fold {fold + 1} of {pairs.name} has no pair left: mend the images that its pairs "
                "lack, or deal other folds by --folds"
            )
        shared = np.isin(people, people[own]).any(axis=1) & pairs.named
        training.append(np.flatnonzero(~own & ~shared))
        testing.append(np.flatnonzero(own))
    return training, testing


def insightface_accuracy(
    distances: np.ndarray, labels: np.ndarray, folds: np.ndarray
) -> dict[str, float]:
    """The figures that InsightFace's verification.py prints, to compare with published ones.

    Each fold is decided by the lowest of 400 thresholds, 0 to 3.99, that is best on the other
    folds, whoever is in them. `cross_validate` tries every threshold between two similarities.

    Args:
      distances: float64 [n], squared Euclidean, of unit embeddings.
      labels: int [n].
      folds: int [n], from 0, each with pairs.

    Returns:
      `accuracy`, the mean over the folds, and `standard_deviation` (of the population).
    """
    thresholds = np.arange(0, 4, 0.01)
    # a pair is accepted from this threshold on
    first_accepted = np.searchsorted(thresholds, distances, side="right")
    gains = np.zeros((int(folds.max()) + 1, len(thresholds) + 1), np.int64)
    np.add.at(gains, (folds, first_accepted), np.where(labels == 1, 1, -1))
    impostors = np.bincount(folds[labels == 0], minlength=len(gains))
    correct = gains.cumsum(axis=1)[:, :-1] + impostors[:, np.newaxis]
    best = (correct.sum(axis=0) - correct).argmax(axis=1)
    accuracies = correct[np.arange(len(gains)), best] / np.bincount(folds)
    return dict(accuracy=float(accuracies.mean()), standard_deviation=float(accuracies.std()))


def make_folds(pairs: PairSet, count: int, seed: int) -> PairSet:
    """Deals the people to folds at random; a pair goes with its first person.

    Raises:
      UserError: a fold would have no pair.
    """
    people = pairs.people()
    dealt = np.random.default_rng(seed).permutation(int(people[:, 0].max()) + 1)
    first = dealt[np.unique(people[:, 0])]

    def are_full(folds: int) -> bool:
        return len(np.unique(first % folds)) == folds

    if not are_full(count):
        most = next((folds for folds in range(count - 1, 1, -1) if are_full(folds)), 1)
        advice = "give more pairs, or choose the threshold on others"
        raise UserError(
            f"--folds={count} leaves a fold without a pair: the {len(pairs):,} pairs of "
            f"{len(np.unique(people)):,} people in {pairs.name} fill at most {most}; "
            f"{f'give --folds={most}' if most > 1 else advice}"
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
    training = [np.flatnonzero(dealt != fold) for fold in range(count)]
    testing = [np.flatnonzero(dealt == fold) for fold in range(count)]
    return training, testing


def note_shared(scored: np.ndarray, choosing: np.ndarray) -> str:
    """The note on scored pairs that also choose the threshold; "" without any.

    Args:
      scored: uint64 [n], a key of each scored pair.
      choosing: uint64 [m], of each pair that chooses.
    """
    shared = int(np.count_nonzero(np.isin(scored, choosing)))
    if not shared:
        return ""
    return (
        f"{shared:,} of the {len(scored):,} scored pairs are among those that the threshold was "
        "chosen on."
    )
