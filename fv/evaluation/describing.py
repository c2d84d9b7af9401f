"""One pass over the distinct images of some pairs: embeddings, and what baselines and slices need of each image."""

import dataclasses

import cv2
import numpy as np
import tensorflow as tf

from fv import embedding, progress
from fv.evaluation.pair_set import Images
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese

GREY_SIDE = 64  # pixels of the small grey image that the baselines compare: 4 KB an image
_UNTRAINED = "the trained ones are: give --nobaselines, or another --seed"

_BATCH_SIZE = 64  # images embedded at once


@dataclasses.dataclass(frozen=True, eq=False)
class Description:
    """What one pass found out of m images; rows of broken ones are zero.

    Attributes:
      embeddings: float32 [m, embedding_size], unit length.
      untrained: float32 [m, embedding_size], of the network before training; None where it was not asked for.
      greys: uint8 [m, GREY_SIDE, GREY_SIDE], the network's input, grey and small; None likewise.
      brightness: float32 [m], mean grey level of the network's input, 0 to 255.
      sharpness: float32 [m], variance of the Laplacian of the network's input in grey: low where it is blurred (Pech-Pacheco
        et al., Diatom autofocusing in brightfield microscopy, ICPR 2000).
      side: int32 [m], the shorter side of the stored image in pixels.
      broken: by index of image, what is wrong with it.
    """

    embeddings: np.ndarray
    untrained: np.ndarray | None
    greys: np.ndarray | None
    brightness: np.ndarray
    sharpness: np.ndarray
    side: np.ndarray
    broken: dict[int, str]


class Describer:
    """Describes images with a model, by the preprocessing of training and export."""

    def __init__(
        self,
        model: Siamese,
        options: ModelOptions,
        untrained: Siamese | None,
        *,
        flip: bool,
        batch_size: int = _BATCH_SIZE,
    ):
        """Args:
        model: the trained model.
        options: its options.
        untrained: the same model before training; None to go without baselines.
        flip: add the embedding of the mirrored image to an image's own, and give the sum unit length.
        batch_size: images embedded at once.
        """
        self._model, self._options, self._untrained = model, options, untrained
        self._flip, self._batch_size = flip, batch_size

    def describe(self, images: Images, name: str) -> Description:
        """Describes every image once.

        Args:
          images: the images.
          name: what they are called, for the progress line.

        Raises:
          UserError: an embedding is not finite.
        """
        count = len(images.paths)
        found = self._empty(count)
        with progress.progress(count, f"embed {name}", "image") as line:
            for batch in embedding.load_batches(
                images, range(count), self._options, self._batch_size, found.broken
            ):
                self._describe_batch(batch, found)
                line.update(len(batch.numbers))
        embedding.require_finite(found.embeddings, images.paths)
        if self._untrained:
            whose = " of the untrained network, a baseline,"
            embedding.require_finite(found.untrained, images.paths, whose, _UNTRAINED)
        return found

    def _empty(self, count: int) -> Description:
        embeddings = np.zeros((count, self._options.embedding_size), np.float32)
        greys = np.zeros((count, GREY_SIDE, GREY_SIDE), np.uint8) if self._untrained else None
        untrained = np.zeros_like(embeddings) if self._untrained else None
        floats = [np.zeros(count, np.float32) for _ in range(2)]
        return Description(embeddings, untrained, greys, *floats, np.zeros(count, np.int32), {})

    def _describe_batch(self, batch: embedding.Batch, found: Description) -> None:
        numbers, pixels = batch.numbers, batch.pixels
        found.side[numbers] = batch.sides
        found.embeddings[numbers] = self._embed(self._model, pixels)
        greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in pixels.numpy()]
        found.brightness[numbers] = [grey.mean() for grey in greys]
        found.sharpness[numbers] = [cv2.Laplacian(grey, cv2.CV_32F).var() for grey in greys]
        if self._untrained:
            found.untrained[numbers] = self._embed(self._untrained, pixels)
            found.greys[numbers] = [
                cv2.resize(grey, (GREY_SIDE,) * 2, interpolation=cv2.INTER_AREA) for grey in greys
            ]

    def _embed(self, model: Siamese, pixels: tf.Tensor) -> np.ndarray:
        """Unit embeddings, float32 [n, embedding_size]."""
        embeddings = embedding.apply_encoder(model.encoder, pixels)
        if self._flip:
            mirrored = embedding.apply_encoder(model.encoder, pixels[:, :, ::-1])
            embeddings = tf.math.l2_normalize(embeddings + mirrored, axis=1)
        return embeddings.numpy()
