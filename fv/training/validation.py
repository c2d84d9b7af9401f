"""Validation during training: scores all validation pairs, and draws a few with their scores."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from fv import contact_sheets, metrics
from fv.model.siamese import PairScorer, Siamese
from fv.pipeline import damage, input_pipeline
from fv.pipeline.damage import DamagedRecords
from fv.pipeline.input_pipeline import PairSource
from fv.training import feeding
from fv.training.options import TrainOptions

_SAMPLES = 8  # pairs on TensorBoard, half of them genuine
_LEAST_SIDE = 64  # pixels; smaller images are enlarged, so that the caption fits below


@dataclasses.dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Attributes:
      similarities: float32 [pairs].
      labels: int32 [pairs], 1 for a genuine pair.
      accuracy: at `threshold`.
      auc: area under the ROC.
      threshold: the best one for these very pairs.
      sample_indices: which pairs are the samples.
      sample_images: uint8 [samples, 2, side, side, 3]; the same pairs in every validation.
    """

    similarities: np.ndarray
    labels: np.ndarray
    accuracy: float
    auc: float
    threshold: float
    sample_indices: np.ndarray
    sample_images: np.ndarray


class Validator:
    """Scores the validation pairs with the present weights.

    The first call builds the input pipeline and the graph; later calls reuse both.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: Siamese,
        source: PairSource,
        options: TrainOptions,
        damaged: DamagedRecords,
    ):
        self._strategy, self._source, self._options, self._damaged = (
            strategy,
            source,
            options,
            damaged,
        )
        self._scorer = PairScorer(strategy, model)
        self._batches: tf.data.Dataset | None = None
        self._sample_indices = self._sample_images = np.zeros(0, np.int64)

    def validate(self, after_batch: Callable[[], object] = lambda: None) -> Validation:
        """Scores all pairs.

        Args:
          after_batch: called after each batch.

        Raises:
          UserError: a record is damaged and none may be skipped, or all pairs have one label.
        """
        batches: Iterable
        if self._batches is None:
            self._batches = feeding.validation_batches(
                self._strategy, self._source, self._options, self._damaged
            )
            batches = self._keep_samples(self._batches)
        else:
            batches = self._batches
        shards = self._source.split.shards
        with damage.name_damaged_record(self._source.folder, shards, self._damaged):
            similarities, labels = self._scorer.score(batches, after_batch)
        curve = metrics.roc(similarities, labels)
        threshold = curve.best_threshold()
        return Validation(
            similarities,
            labels,
            metrics.accuracy(similarities, labels, threshold),
            curve.auc(),
            threshold,
            self._sample_indices,
            self._sample_images,
        )

    def _keep_samples(self, batches: Iterable) -> Iterator:
        """The same batches; keeps images of the first, whose pairs are scored first."""
        iterator = input_pipeline.iterate(batches)
        first = next(iterator)
        valid = self._local(first["valid"])
        images, labels = (self._local(first[name])[valid] for name in ("images", "label"))
        self._sample_indices = choose_samples(labels, _SAMPLES)
        self._sample_images = images[self._sample_indices]
        yield first
        yield from iterator

    def _local(self, value: tf.Tensor) -> np.ndarray:
        """The parts of this process's replicas, in the order in which scores are gathered."""
        parts = self._strategy.experimental_local_results(value)
        return np.concatenate([part.numpy() for part in parts])


def choose_samples(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of the pairs to show: the first genuine and the first impostor pairs.

    Args:
      labels: int [pairs], 1 for a genuine pair.
      count: at most this many, half of each kind.
    """
    return np.concatenate([np.flatnonzero(labels == label)[: count // 2] for label in (1, 0)])


def draw_samples(
    images: np.ndarray, labels: np.ndarray, similarities: np.ndarray, threshold: float
) -> np.ndarray:
    """Draws pairs with their similarities, green if the threshold decides correctly.

    Args:
      images: uint8 [pairs, 2, side, side, 3].
      labels: int [pairs], 1 for a genuine pair.
      similarities: float [pairs].
      threshold: similarities from here on decide for genuine.

    Returns:
      uint8 [height, width, 3], RGB.
    """
    correct = (similarities >= threshold) == (labels == 1)
    pairs = [
        contact_sheets.Pair(
            pair[0],
            pair[1],
            int(label),
            f"{similarity:.3f}",
            "correct" if right else "wrong",
            contact_sheets.GREEN if right else contact_sheets.RED,
        )
        for pair, label, similarity, right in zip(
            images, labels, similarities, correct, strict=True
        )
    ]
    side = max(_LEAST_SIDE, images.shape[2])
    return np.asarray(contact_sheets.draw_pairs(pairs, side=side))
