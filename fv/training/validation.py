"""Validation during training: scores all validation pairs, and draws a few with their scores."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from fv import metrics
from fv.model.siamese import PairScorer, Siamese
from fv.pipeline import damage
from fv.pipeline.damage import BadRecords
from fv.pipeline.input_pipeline import PairSource
from fv.training import feeding
from fv.training.options import TrainOptions

_SAMPLES = 8  # pairs on TensorBoard, half of them genuine
_COLUMNS = 4  # pairs beside each other
_GAP, _CAPTION = 6, 16  # pixels: around a pair, below it
_LEAST_SIDE = 64  # pixels; smaller images are enlarged, so that the caption fits below
_BACKGROUND, _RIGHT, _WRONG = "white", "#1a7f37", "#cf222e"
_NAMES = ("impostor", "genuine")


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
        bad: BadRecords,
    ):
        self._strategy, self._source, self._options, self._bad = strategy, source, options, bad
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
                self._strategy, self._source, self._options, self._bad
            )
            batches = self._keep_samples(self._batches)
        else:
            batches = self._batches
        shards = self._source.split.shards
        with damage.report_damaged_record(self._source.folder, shards, self._bad):
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
        iterator = iter(batches)
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
    """Draws pairs with label and similarity, green where the decision at the threshold is right.

    Args:
      images: uint8 [pairs, 2, side, side, 3].
      labels: int [pairs], 1 for a genuine pair.
      similarities: float [pairs].
      threshold: similarities from here on decide for genuine.

    Returns:
      uint8 [height, width, 3], RGB.
    """
    zoom = -(-_LEAST_SIDE // images.shape[2])
    images = images.repeat(zoom, axis=2).repeat(zoom, axis=3)
    side = images.shape[2]
    pitch_x, pitch_y = 2 * side + _GAP, side + _CAPTION + _GAP
    columns = min(_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * pitch_x + _GAP, rows * pitch_y + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    pairs = zip(images, labels, similarities, strict=True)
    for index, (pair, label, similarity) in enumerate(pairs):
        x, y = _GAP + index % columns * pitch_x, _GAP + index // columns * pitch_y
        sheet.paste(Image.fromarray(np.hstack(pair)), (x, y))
        colour = _RIGHT if (similarity >= threshold) == bool(label) else _WRONG
        draw.text((x, y + side + 2), f"{_NAMES[label]} {similarity:.3f}", fill=colour)
    return np.asarray(sheet)
