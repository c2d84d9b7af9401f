"""The verdict on two images, from a SavedModel and nothing else."""

import dataclasses
import os

import tensorflow as tf

from fv.errors import UserError


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The answer on one pair.

    Attributes:
      same: whether both images show the same person, which is similarity ≥ threshold.
      similarity: in [0, 1]; a score to compare with the threshold, not a probability.
      threshold: the similarity from which on the model calls two images the same person.
    """

    same: bool
    similarity: float
    threshold: float


class Verifier:
    """A loaded SavedModel that `fv.export` wrote."""

    def __init__(self, path: str):
        """Loads the model.

        Args:
          path: folder of one version, such as export/1.

        Raises:
          UserError: the folder is missing or holds no SavedModel of fv.
        """
        if not os.path.exists(os.path.join(path, "saved_model.pb")):
            raise UserError(f"{path} holds no SavedModel: give a version folder that fv.export wrote, such as export/1")
        try:
            self._model = tf.saved_model.load(path)
            self._compare = self._model.signatures["serving_default"]
            self._embed = self._model.signatures["embed"]
            self._threshold = float(self._model.threshold.numpy())
        except (OSError, KeyError, AttributeError, ValueError, tf.errors.OpError) as error:
            reason = str(error).split("\n", 1)[0]
            raise UserError(f"{path} holds no SavedModel that fv.export wrote, or a damaged one ({reason})") from error

    def verify(self, image_a: str | bytes, image_b: str | bytes) -> Verdict:
        """Compares two images.

        Args:
          image_a: path of an image file, or its bytes (JPEG, PNG, BMP or GIF).
          image_b: as image_a.

        Raises:
          UserError: an image is missing or broken; the message names it.
        """
        encoded_a, encoded_b = _read(image_a), _read(image_b)
        try:
            answer = self._compare(image_a=tf.constant([encoded_a]), image_b=tf.constant([encoded_b]))
        except tf.errors.InvalidArgumentError:
            self._check(image_a, encoded_a)
            self._check(image_b, encoded_b)
            raise
        similarity, same = (answer[name].numpy()[0].item() for name in ("similarity", "same"))
        return Verdict(same=same, similarity=similarity, threshold=self._threshold)

    def _check(self, image: str | bytes, encoded: bytes) -> None:
        try:
            self._embed(image=tf.constant([encoded]))
        except tf.errors.InvalidArgumentError as error:
            name = image if isinstance(image, str) else f"an image of {len(image):,} bytes"
            raise UserError(f"{name} is no whole JPEG, PNG, BMP or GIF") from error


def _read(image: str | bytes) -> bytes:
    if isinstance(image, bytes):
        return image
    if not os.path.isfile(image):
        raise UserError(f"{image} is no file")
    with open(image, "rb") as file:
        return file.read()
