"""Validation in the course of a run: all validation pairs scored, by a graph that is built at the first one and kept."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from fv import metrics
from fv.model.scoring import PairScorer
from fv.model.siamese import Siamese
from fv.pipeline import damage
from fv.pipeline.damage import BadRecords
from fv.pipeline.input_pipeline import PairSource
from fv.training import feeding
from fv.training.options import TrainOptions
from fv.training.watching import montage

_SHOWN_PAIRS = 8  # on TensorBoard, half of them genuine


@dataclasses.dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes:
      similarities: float32 [pairs].
      labels: int32 [pairs], 1 for a genuine pair.
      accuracy: at the threshold that is best for these very pairs.
      auc: area under their ROC.
      threshold: that threshold.
      shown: indices of the pairs whose images are held.
      images: uint8 [shown, 2, side, side, 3], the same pairs in every validation.
    """

    similarities: np.ndarray
    labels: np.ndarray
    accuracy: float
    auc: float
    threshold: float
    shown: np.ndarray
    images: np.ndarray


class Validator:
    """Scores the validation pairs with the model as it is; nothing is built before the first call."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: Siamese,
        source: PairSource,
        options: TrainOptions,
        bad: BadRecords,
    ):
        self._strategy, self._source, self._options, self._bad = strategy, source, options, bad
        self._scorer = PairScorer(strategy, model)
        self._batches: tf.data.Dataset | None = None
        self._shown = self._images = np.zeros(0, np.int64)

    def validate(self, after_batch: Callable[[], object] = lambda: None) -> Validation:
        """Scores all pairs, and calls `after_batch` after each batch.

        Raises:
          UserError: a record is damaged and none may be skipped, or the pairs are all of one label.
        """
        first = self._batches is None
        if first:
            self._batches = feeding.validation_batches(
                self._strategy, self._source, self._options, self._bad
            )
        with damage.reported(self._source.folder, self._source.split.shards, self._bad):
            batches = self._holding_samples(self._batches) if first else self._batches
            similarities, labels = self._scorer.score(batches, after_batch)
        curve = metrics.roc(similarities, labels)
        threshold = curve.best_threshold()
        accuracy = metrics.accuracy(similarities, labels, threshold)
        return Validation(
            similarities, labels, accuracy, curve.auc(), threshold, self._shown, self._images
        )

    def _holding_samples(self, batches: Iterable) -> Iterator:
        """The same batches; keeps images of the first, whose pairs are the first that are scored."""
        iterator = iter(batches)
        first = next(iterator)
        local = {name: self._local(first[name]) for name in ("images", "label", "valid")}
        images, labels = (local[name][local["valid"]] for name in ("images", "label"))
        self._shown = montage.choose(labels, _SHOWN_PAIRS)
        self._images = images[self._shown]
        yield first
        yield from iterator

    def _local(self, value: tf.Tensor) -> np.ndarray:
        """What the replicas of this process hold, one behind the other, as the scores are gathered."""
        return np.concatenate(
            [part.numpy() for part in self._strategy.experimental_local_results(value)]
        )
