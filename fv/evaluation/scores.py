"""Verification without learning: distance of pixels and structural similarity, the floor that a trained model must beat."""

import dataclasses
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import tensorflow as tf

from fv import embedding, progress
from fv.evaluation.pairs import Images, PairSet
from fv.model import heads
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese

WINDOW = 7  # pixels, the side of SSIM's local window
DYNAMIC_RANGE = 255.0
K1, K2 = 0.01, 0.03  # the constants of the SSIM paper


def pixel_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distance of raw pixels.

    Args:
      first, second: images (N, H, W, ...) in [0, 255].

    Returns:
      (N,) float32, 0 for equal images.
    """
    difference = first.astype(np.float32) - second.astype(np.float32)
    return np.sqrt((difference**2).reshape(len(first), -1).sum(axis=1))


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean structural similarity over local windows.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE
    Transactions on Image Processing 13(4), 2004, equation 13, here with a square window of even weights.

    Args:
      first, second: grey images (N, H, W) in [0, 255].

    Returns:
      (N,) float in [-1, 1], 1 for equal images.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = _local_mean(first), _local_mean(second)
    variance_a = _local_mean(first * first) - mean_a**2
    variance_b = _local_mean(second * second) - mean_b**2
    covariance = _local_mean(first * second) - mean_a * mean_b
    c1, c2 = (K1 * DYNAMIC_RANGE) ** 2, (K2 * DYNAMIC_RANGE) ** 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return similarity.mean(axis=(1, 2))


def _local_mean(images: np.ndarray) -> np.ndarray:
    """Mean over every WINDOW × WINDOW window that lies inside the image, by summed areas."""
    sums = np.pad(images, ((0, 0), (1, 0), (1, 0))).cumsum(axis=1).cumsum(axis=2)
    corners = (
        sums[:, WINDOW:, WINDOW:]
        - sums[:, WINDOW:, :-WINDOW]
        - sums[:, :-WINDOW, WINDOW:]
        + sums[:, :-WINDOW, :-WINDOW]
    )
    return corners / WINDOW**2


# One pass over the distinct images of some pairs: embeddings, and what baselines and slices need
# of each image.

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


# Similarities of pairs from the descriptions of their images: the model's, and those of baselines
# that learned nothing.

MODEL = "fv"
_CHUNK = 1024  # pairs compared at once: SSIM holds some hundred MB for them
_GREYS = 256


def score_pairs(pairs: PairSet, found: Description, model: Siamese) -> dict[str, np.ndarray]:
    """Similarities of every pair, by who says them: the model, and the baselines where their inputs were collected.

    Baselines: Euclidean distance of pixels and SSIM (Wang et al., IEEE TIP 2004) of small grey images, earth mover's
    distance of their grey histograms (in one dimension the area between the cumulated histograms; Rubner, Tomasi and
    Guibas, IJCV 2000), and the cosine of the untrained network's embeddings.

    Args:
      pairs: which images to compare.
      found: descriptions of these images.
      model: whose head compares embeddings.

    Returns:
      By name, floating [n], higher is more alike; `MODEL`'s are float32 in [0, 1].
    """
    compared = {MODEL: _over(pairs, found.embeddings, _by_head(model.head.similarity))}
    if found.greys is not None:
        cumulated = _cumulated_histograms(found.greys)
        compared |= {
            "untrained network": _over(pairs, found.untrained, _by_head(heads.cosine_similarity)),
            "SSIM": _over(pairs, found.greys, ssim),
            "raw-pixel L2": _over(pairs, found.greys, lambda a, b: -pixel_distance(a, b)),
            "EMD of grey histograms": _over(
                pairs, cumulated, lambda a, b: -np.abs(a - b).sum(axis=1)
            ),
        }
    return compared


def _over(pairs: PairSet, features: np.ndarray, similarity: Callable) -> np.ndarray:
    return np.concatenate(
        [similarity(features[first], features[second]) for first, second in _chunks(pairs)]
    )


def _chunks(pairs: PairSet) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(pairs), _CHUNK):
        part = slice(start, start + _CHUNK)
        yield pairs.first[part], pairs.second[part]


def _by_head(
    similarity: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda a, b: similarity(tf.constant(a), tf.constant(b)).numpy()


def _cumulated_histograms(greys: np.ndarray) -> np.ndarray:
    """Share of pixels up to each grey level, float32 [m, 256]; the sum of differences is a distance in grey levels."""
    counts = np.stack([np.bincount(grey.ravel(), minlength=_GREYS) for grey in greys])
    return (counts.cumsum(axis=1) / greys[0].size).astype(np.float32)
