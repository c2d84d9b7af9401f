"""The verdict on two images, from a SavedModel and nothing else."""

import dataclasses
import os
import re
import sys
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fv import errors, files
from fv.errors import UserError
from fv.serving import model_card, signatures, sources, versions
from fv.serving.sources import ImageSource

# The answer on one pair.


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The answer on one pair.

    Attributes:
      same: whether both images show the same person, which is similarity ≥ threshold.
      similarity: in [0, 1]; a score to compare with the threshold, not a probability.
      threshold: the similarity from which on two images are taken for the same person.
      probability: in [0, 1], that they show the same person, where as large a share of pairs is genuine as among the
        validation pairs that it was calibrated on (model_card.md has the share).
      distance: Euclidean distance of the embeddings, [0, 2].
    """

    same: bool
    similarity: float
    threshold: float
    probability: float
    distance: float

    def sentence(self) -> str:
        """The verdict in words."""
        said = "same person" if self.same else "different people"
        return f"{said}: similarity {self.similarity:.4f}, threshold {self.threshold:.4f}, probability {self.probability:.4f}"


Batch = Sequence[ImageSource] | np.ndarray
_ASSERTION = re.compile(r"assertion failed: \[(?:b')?(.+?)'?\]\s*$", re.MULTILINE)
_NAMED = re.compile(r"^\w+\[(\d+)\] (.+)$")
_MEGAPIXELS = 50.0  # default of fv.export's --max_megapixels
_NOT_VOUCHED = (
    f"fv: warning: %s has no {versions.FILE_NAME}, so nothing vouches for it: a SavedModel is code that runs with your "
    "rights; load it only if you trust where it comes from"
)


class Verifier:
    """A SavedModel that `fv.export` wrote, loaded once. Threads may share one: nothing changes after it is made."""

    def __init__(self, path: str, threshold: float | None = None):
        """Loads the model; where it has no checksums, a warning on stderr says that a SavedModel is code.

        A note on stderr says so where it was trained on boxes, and images have to be cut to the face's box.

        Args:
          path: folder of one version, such as export/1, or of versions, whose highest is taken.
          threshold: similarity from which on two images are the same person, in [0, 1]; the model's by default.

        Raises:
          UserError: the folder holds no SavedModel of fv, or its files are not what its checksums say.
        """
        self.path = versions.latest_version(path)
        if versions.has_checksums(self.path):
            versions.check_checksums(self.path)
        else:
            print(_NOT_VOUCHED % self.path, file=sys.stderr)
        try:
            self._model = tf.saved_model.load(self.path)
            self._signatures = {
                name: self._model.signatures[name]
                for name in ("serving_default", "embed", "compare")
            }
            trained = float(self._model.threshold.numpy())
            card = _read_card(self.path)
            self._max_pixels = round(
                card.get("images", {}).get("max_megapixels", _MEGAPIXELS) * 1e6
            )
        except (OSError, KeyError, AttributeError, ValueError, tf.errors.OpError) as error:
            errors.raise_if_temporary(error)
            reason = str(error).split("\n", 1)[0]
            raise UserError(
                f"{path} holds no SavedModel that fv.export wrote, or a damaged one ({reason})"
            ) from error
        self.threshold = trained if threshold is None else _checked(threshold)
        if "boxes" in (card.get("preprocessing") or {}):
            print(f"fv: note: {self.path}: {model_card.BOXES}", file=sys.stderr)

    def verify(
        self,
        image_a: ImageSource | Batch,
        image_b: ImageSource | Batch,
        threshold: float | None = None,
    ) -> Verdict | list[Verdict]:
        """Compares two images, or two batches of them pair by pair.

        Args:
          image_a: a path or bytes of a file of any format that the converter takes, a uint8 array [height, width, 3], a PIL
            image; or a list of these, or a uint8 array [batch, height, width, 3].
          image_b: as image_a.
          threshold: in place of the verifier's.

        Returns:
          A verdict, or for batches a list of them.

        Raises:
          UserError: an image is missing, broken or too large, and the message names it; or the batches differ in length.
        """
        if sources.is_batch(image_a) != sources.is_batch(image_b):
            raise UserError(
                "one image and a batch cannot be compared: give two images, or two lists of one length"
            )
        if sources.is_batch(image_a):
            return self._verify(list(image_a), list(image_b), threshold)
        return self._verify([image_a], [image_b], threshold)[0]

    def embed(self, images: ImageSource | Batch) -> np.ndarray:
        """Embeds images, given as in `verify`; float32 [batch, d] of unit length, or [d] for a single image."""
        batch = list(images) if sources.is_batch(images) else [images]
        embeddings = self._call("embed", {signatures.IMAGE: batch})["embedding"].numpy()
        return embeddings if sources.is_batch(images) else embeddings[0]

    def compare(
        self, embedding_a: np.ndarray, embedding_b: np.ndarray, threshold: float | None = None
    ) -> Verdict | list[Verdict]:
        """Compares embeddings that `embed` made: [d] each for a verdict, [batch, d] for a list of them.

        Raises:
          UserError: shapes differ or are not this model's, or an embedding is not of unit length.
        """
        pair = [np.asarray(embedding, np.float32) for embedding in (embedding_a, embedding_b)]
        size = (
            self._signatures["compare"]
            .structured_input_signature[1][signatures.EMBEDDING_A]
            .shape[1]
        )
        if (
            pair[0].shape != pair[1].shape
            or pair[0].ndim not in (1, 2)
            or pair[0].shape[-1] != size
        ):
            shapes = " and ".join(str(list(one.shape)) for one in pair)
            raise UserError(
                f"embeddings {shapes} do not fit: give [{size}] each, or [batch, {size}] each"
            )
        inputs = dict(
            zip(
                (signatures.EMBEDDING_A, signatures.EMBEDDING_B),
                map(np.atleast_2d, pair),
                strict=True,
            )
        )
        verdicts = self._verdicts(self._run("compare", inputs, {}), threshold)
        return verdicts if pair[0].ndim == 2 else verdicts[0]

    def _verify(self, images_a: list, images_b: list, threshold: float | None) -> list[Verdict]:
        if len(images_a) != len(images_b):
            raise UserError(
                f"{len(images_a):,} and {len(images_b):,} images are no pairs: give two lists of one length"
            )
        answer = self._call(
            "serving_default", {signatures.IMAGE_A: images_a, signatures.IMAGE_B: images_b}
        )
        return self._verdicts(answer, threshold)

    def _call(self, signature: str, batches: dict[str, list]) -> dict[str, tf.Tensor]:
        encoded = {
            name: np.array([sources.encode(image, self._max_pixels) for image in batch], object)
            for name, batch in batches.items()
        }
        return self._run(signature, encoded, batches)

    def _run(
        self, signature: str, inputs: dict[str, np.ndarray], batches: dict[str, list]
    ) -> dict[str, tf.Tensor]:
        strings = {
            name: tf.constant(values, tf.string if name in batches else None)
            for name, values in inputs.items()
        }
        try:
            return self._signatures[signature](**strings)
        except tf.errors.InvalidArgumentError as error:
            raise UserError(_said_of(str(error), batches)) from error

    def _verdicts(self, answer: dict[str, tf.Tensor], threshold: float | None) -> list[Verdict]:
        threshold = self.threshold if threshold is None else _checked(threshold)
        columns = [answer[name].numpy() for name in ("similarity", "probability", "distance")]
        if not np.isfinite(columns).all():
            raise UserError(
                f"{self.path} gives a similarity that is no finite number: its weights diverged, export again"
            )
        same = (columns[0] >= np.float32(threshold)).tolist()
        rows = zip(same, *(column.tolist() for column in columns), strict=True)
        return [
            Verdict(same, similarity, threshold, probability, distance)
            for same, similarity, probability, distance in rows
        ]


def _read_card(folder: str) -> dict:
    """The model card; empty where an export has none."""
    path = os.path.join(folder, model_card.JSON)
    return files.load_json(path) if os.path.exists(path) else {}


def _checked(threshold: float) -> float:
    if not 0.0 <= threshold <= 1.0:
        raise UserError(f"the threshold {threshold} is no similarity: give one from 0 to 1")
    return float(threshold)


def _said_of(message: str, batches: dict[str, list]) -> str:
    """What the graph says of an image, with the caller's name for it in place of image_a[0]."""
    found = _ASSERTION.search(message)
    said = found[1] if found else message.split("\n", 1)[0]
    named = _NAMED.match(said)
    batch = batches.get(said.split("[", 1)[0])
    return f"{sources.name(batch[int(named[1])])} {named[2]}" if named and batch else said
