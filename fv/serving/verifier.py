"""Verdicts on pairs of images, from a SavedModel and nothing else."""

import dataclasses
import re
from typing import Protocol

import numpy as np

from fv.errors import UserError
from fv.serving import contract, sources
from fv.serving.contract import InputError, Inputs, Outputs
from fv.serving.sources import Batch, ImageSource

_MAX_MEGAPIXELS = 50.0  # of an export whose card does not say; the default of --max_megapixels
_NAMED = re.compile(r"^(\w+)\[(\d+)\] (.+)$")


class Engine(Protocol):
    """What runs the signatures of an export: this process, or a server."""

    path: str
    card: dict
    threshold: float
    embedding_size: int

    def run(self, signature: str, inputs: Inputs) -> Outputs: ...


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The answer on one pair.

    Attributes:
      same: whether both images show the same person, which is similarity ≥ threshold.
      similarity: in [0, 1]; a score to compare with the threshold, not a probability.
      threshold: similarity from which on two images show the same person.
      probability: in [0, 1], that they show the same person, if genuine pairs are as frequent as
        among the validation pairs (model_card.md has their share).
      distance: Euclidean distance of the embeddings, in [0, 2].
    """

    same: bool
    similarity: float
    threshold: float
    probability: float
    distance: float

    def sentence(self) -> str:
        """The verdict in words."""
        who = "same person" if self.same else "different people"
        scores = f"similarity {self.similarity:.4f}, threshold {self.threshold:.4f}"
        return f"{who}: {scores}, probability {self.probability:.4f}"


class Verifier:
    """A SavedModel that `fv.export` wrote, loaded once. Threads may share it."""

    def __init__(self, path: str, threshold: float | None = None):
        """Loads the model.

        If it has no checksums, a warning on stderr says that a SavedModel is code. If it was
        trained on boxes, a note says that images have to be cut to the face's box.

        Args:
          path: folder of one version, such as export/1, or of versions, whose highest is taken.
          threshold: similarity from which on two images show the same person, in [0, 1]; the
            model's by default.

        Raises:
          UserError: the folder holds no SavedModel of fv, or its files do not match its checksums.
        """
        # `fv.Client` shares this class and does without TensorFlow.
        from fv.serving.engine import TensorFlowEngine

        self._use(TensorFlowEngine(path), threshold)

    def _use(self, engine: Engine, threshold: float | None) -> None:
        self._engine, self.path = engine, engine.path
        self._max_pixels = max_pixels(engine.card)
        self.threshold = engine.threshold if threshold is None else _check_threshold(threshold)

    def verify(
        self,
        image_a: ImageSource | Batch,
        image_b: ImageSource | Batch,
        threshold: float | None = None,
    ) -> Verdict | list[Verdict]:
        """Compares two images, or two batches of them pair by pair.

        Args:
          image_a: a path or bytes of a file of any format that the converter takes, a uint8 array
            [height, width, 3], a PIL image; or a list of these, or a uint8 array [batch, height,
            width, 3].
          image_b: as image_a.
          threshold: in place of the verifier's.

        Returns:
          A verdict, or a list of them for batches.

        Raises:
          UserError: an image is missing, broken or too large, and the message names it; or the
            batches differ in length.
        """
        if sources.is_batch(image_a) and sources.is_batch(image_b):
            return self._verify(list(image_a), list(image_b), threshold)
        if sources.is_batch(image_a) or sources.is_batch(image_b):
            raise UserError(
                "one image and a batch cannot be compared: give two images, or two lists of one "
                "length"
            )
        return self._verify([image_a], [image_b], threshold)[0]

    def embed(self, images: ImageSource | Batch) -> np.ndarray:
        """Embeds images as `verify` takes them; float32 [batch, d], or [d] for a single image."""
        batch = list(images) if sources.is_batch(images) else [images]
        embeddings = self._call_on_images("embed", {contract.IMAGE: batch})["embedding"]
        return embeddings if sources.is_batch(images) else embeddings[0]

    def compare(
        self, embedding_a: np.ndarray, embedding_b: np.ndarray, threshold: float | None = None
    ) -> Verdict | list[Verdict]:
        """Compares embeddings that `embed` made: [d] each for a verdict, [batch, d] for a list.

        Raises:
          UserError: shapes differ or are not this model's, or an embedding is not of unit length.
        """
        pair = [np.asarray(embedding, np.float32) for embedding in (embedding_a, embedding_b)]
        shapes = [list(one.shape) for one in pair]
        size = self._engine.embedding_size
        if shapes[0] != shapes[1] or shapes[0][-1:] != [size] or len(shapes[0]) > 2:
            raise UserError(
                f"embeddings {shapes[0]} and {shapes[1]} do not fit: give [{size}] each, or "
                f"[batch, {size}] each"
            )
        first, second = (np.atleast_2d(one) for one in pair)
        inputs = {contract.EMBEDDING_A: first, contract.EMBEDDING_B: second}
        verdicts = self._verdicts(self._engine.run("compare", inputs), threshold)
        return verdicts if pair[0].ndim == 2 else verdicts[0]

    def _verify(self, images_a: list, images_b: list, threshold: float | None) -> list[Verdict]:
        if len(images_a) != len(images_b):
            raise UserError(
                f"{len(images_a):,} and {len(images_b):,} images are no pairs: give two lists of "
                "one length"
            )
        batches = {contract.IMAGE_A: images_a, contract.IMAGE_B: images_b}
        return self._verdicts(self._call_on_images("serving_default", batches), threshold)

    def _call_on_images(self, signature: str, batches: dict[str, list]) -> Outputs:
        inputs = {
            name: [sources.encode(one, self._max_pixels) for one in batch]
            for name, batch in batches.items()
        }
        try:
            return self._engine.run(signature, inputs)
        except InputError as error:
            raise UserError(_name_image(str(error), batches)) from error

    def _verdicts(self, answer: Outputs, threshold: float | None) -> list[Verdict]:
        threshold = self.threshold if threshold is None else _check_threshold(threshold)
        columns = [answer[name] for name in ("similarity", "probability", "distance")]
        if not np.isfinite(columns).all():
            raise UserError(
                f"{self.path} gives a similarity that is no finite number: its weights diverged, "
                "export again"
            )
        same = (columns[0] >= np.float32(threshold)).tolist()
        rows = zip(same, *(column.tolist() for column in columns), strict=True)
        return [
            Verdict(same, similarity, threshold, probability, distance)
            for same, similarity, probability, distance in rows
        ]


def _check_threshold(threshold: float) -> float:
    if not 0.0 <= threshold <= 1.0:
        raise UserError(f"the threshold {threshold} is no similarity: give one from 0 to 1")
    return float(threshold)


def _name_image(reason: str, batches: dict[str, list]) -> str:
    """The reason, with the caller's name for an image in place of image_a[0]."""
    named = _NAMED.match(reason)
    if not named or named[1] not in batches:
        return reason
    return f"{sources.name(batches[named[1]][int(named[2])])} {named[3]}"


def max_pixels(card: dict) -> int:
    """The most pixels of an image that the export of a model card takes."""
    return round(card.get("images", {}).get("max_megapixels", _MAX_MEGAPIXELS) * 1e6)
