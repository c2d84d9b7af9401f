"""A few validation pairs with their scores, in one picture."""

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

_COLUMNS = 4  # pairs beside each other
_GAP, _CAPTION = 6, 16  # pixels: around a pair, below it
_LEAST_SIDE = 64  # pixels; smaller images are shown larger, for the caption to fit below
_PAPER, _RIGHT, _WRONG = "white", "#1a7f37", "#cf222e"
_NAMES = ("impostor", "genuine")


def choose_samples(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of the pairs to show: the first genuine and the first impostor ones, as many of each as there are up to half.

    Args:
      labels: int [pairs], 1 for a genuine pair.
      count: how many to show at most.
    """
    halves = [np.flatnonzero(labels == label)[: count // 2] for label in (1, 0)]
    return np.concatenate(halves)


def draw_samples(
    images: np.ndarray, labels: np.ndarray, similarities: np.ndarray, threshold: float
) -> np.ndarray:
    """Draws pairs, each with its label and similarity below it, green where similarity >= threshold decides rightly.

    Args:
      images: uint8 [pairs, 2, side, side, 3].
      labels: int [pairs], 1 for a genuine pair.
      similarities: float [pairs].
      threshold: of the decision.

    Returns:
      uint8 [height, width, 3], RGB.
    """
    zoom = -(-_LEAST_SIDE // images.shape[2])
    images = images.repeat(zoom, axis=2).repeat(zoom, axis=3)
    side = images.shape[2]
    pitch_x, pitch_y = 2 * side + _GAP, side + _CAPTION + _GAP
    columns = min(_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * pitch_x + _GAP, rows * pitch_y + _GAP), _PAPER)
    for index, (pair, label, similarity) in enumerate(
        zip(images, labels, similarities, strict=True)
    ):
        corner = (_GAP + index % columns * pitch_x, _GAP + index // columns * pitch_y)
        sheet.paste(Image.fromarray(np.hstack(pair)), corner)
        colour = _RIGHT if (similarity >= threshold) == bool(label) else _WRONG
        caption = f"{_NAMES[label]} {similarity:.3f}"
        ImageDraw.Draw(sheet).text((corner[0], corner[1] + side + 2), caption, fill=colour)
    return np.asarray(sheet)


# Validation in the course of a run: all validation pairs scored, by a graph that is built at the
# first one and kept.

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
        with damage.report_damaged_record(
            self._source.folder, self._source.split.shards, self._bad
        ):
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
        self._shown = choose_samples(labels, _SHOWN_PAIRS)
        self._images = images[self._shown]
        yield first
        yield from iterator

    def _local(self, value: tf.Tensor) -> np.ndarray:
        """What the replicas of this process hold, one behind the other, as the scores are gathered."""
        return np.concatenate(
            [part.numpy() for part in self._strategy.experimental_local_results(value)]
        )
