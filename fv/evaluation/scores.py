"""Similarities of pairs: by the model, and by baselines that need no training.

Every image is embedded once; the same pass collects what baselines and slices need of it.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import tensorflow as tf

from fv import embedding, progress
from fv.evaluation.pairs import Images, PairSet
from fv.model import heads
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese

MODEL = "fv"  # the name of the model's similarities
GREY_SIDE = 64  # pixels of the small grey image that the baselines compare: 4 KB an image
_BATCH_SIZE = 64  # images embedded at once
_PAIRS_AT_ONCE = 1024  # SSIM takes some hundred MB for them
_GREY_LEVELS = 256
_SSIM_WINDOW = 7  # pixels, the side of the local window
_SSIM_RANGE = 255.0  # of the pixels
_SSIM_K1, _SSIM_K2 = 0.01, 0.03  # the constants of the paper


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Features of m images; rows of broken images are zero.

    Attributes:
      embeddings: float32 [m, embedding_size], unit length.
      untrained: float32 [m, embedding_size], of the untrained network; None without baselines.
      greys: uint8 [m, GREY_SIDE, GREY_SIDE], the network's input, grey and small; None without
        baselines.
      brightness, sharpness: float32 [m], of the network's input (`embedding.measure_quality`).
      side: int32 [m], the shorter side of the stored image in pixels.
      broken: why an image cannot be decoded, by its index.
    """

    embeddings: np.ndarray
    untrained: np.ndarray | None
    greys: np.ndarray | None
    brightness: np.ndarray
    sharpness: np.ndarray
    side: np.ndarray
    broken: dict[int, str]


def extract_features(
    images: Images,
    name: str,
    model: Siamese,
    options: ModelOptions,
    *,
    untrained: Siamese | None,
    flip: bool,
) -> ImageFeatures:
    """Extracts the features of every image, with the preprocessing of training and export.

    Args:
      images: the images.
      name: what they are called, for the progress line.
      model: the trained model.
      options: of the model.
      untrained: the same model before training; None for no baselines.
      flip: add the embedding of the mirrored image to each embedding, and normalise the sum.

    Raises:
      UserError: an embedding is not finite.
    """
    count, compared = len(images.paths), len(images.paths) if untrained else 0
    embeddings = np.zeros((count, options.embedding_size), np.float32)
    untrained_embeddings = np.zeros((compared, options.embedding_size), np.float32)
    greys = np.zeros((compared, GREY_SIDE, GREY_SIDE), np.uint8)
    brightness, sharpness = np.zeros(count, np.float32), np.zeros(count, np.float32)
    side = np.zeros(count, np.int32)
    broken: dict[int, str] = {}
    batches = embedding.load_batches(images, range(count), options, _BATCH_SIZE, broken)
    with progress.Progress(count, f"embed {name}", "image") as line:
        for numbers, pixels, side_of_batch in batches:
            embeddings[numbers] = _embed(model, pixels, flip)
            side[numbers] = side_of_batch
            grey = embedding.to_greys(pixels)
            brightness[numbers], sharpness[numbers] = embedding.measure_quality(grey)
            if untrained:
                untrained_embeddings[numbers] = _embed(untrained, pixels, flip)
                greys[numbers] = [
                    cv2.resize(image, (GREY_SIDE, GREY_SIDE), interpolation=cv2.INTER_AREA)
                    for image in grey
                ]
            line.update(len(numbers))
    embedding.require_finite(embeddings, images.paths)
    if not untrained:
        return ImageFeatures(embeddings, None, None, brightness, sharpness, side, broken)
    embedding.require_finite(
        untrained_embeddings,
        images.paths,
        " of the untrained network, a baseline,",
        "those of the trained one are: give --nobaselines, or another --seed",
    )
    return ImageFeatures(
        embeddings, untrained_embeddings, greys, brightness, sharpness, side, broken
    )


def _embed(model: Siamese, pixels: tf.Tensor, flip: bool) -> np.ndarray:
    """Unit embeddings, float32 [n, embedding_size]."""
    embeddings = embedding.apply_encoder(model.encoder, pixels)
    if flip:
        mirrored = embedding.apply_encoder(model.encoder, pixels[:, :, ::-1])
        embeddings = tf.math.l2_normalize(embeddings + mirrored, axis=1)
    return embeddings.numpy()


def score_pairs(pairs: PairSet, features: ImageFeatures, model: Siamese) -> dict[str, np.ndarray]:
    """Scores pairs by the head of the model and, if their features are there, by the baselines.

    The baselines are the cosine of the untrained network's embeddings, and of small grey images
    SSIM, the Euclidean distance of pixels and the earth mover's distance of histograms: in one
    dimension the area between the cumulated histograms (Rubner, Tomasi and Guibas, IJCV 2000).

    Returns:
      Similarities by name, floating [n], higher is more alike; `MODEL`'s are float32 in [0, 1].
    """

    scorers: dict[str, tuple[np.ndarray, Callable[[np.ndarray, np.ndarray], np.ndarray]]]
    scorers = {MODEL: (features.embeddings, _with_arrays(model.head.similarity))}
    if features.untrained is not None and features.greys is not None:
        histograms = np.stack(
            [np.bincount(grey.ravel(), minlength=_GREY_LEVELS) for grey in features.greys]
        )
        cumulated = (histograms.cumsum(axis=1) / GREY_SIDE**2).astype(np.float32)
        scorers |= {
            "untrained network": (features.untrained, _with_arrays(heads.cosine_similarity)),
            "SSIM": (features.greys, ssim),
            "raw-pixel L2": (features.greys, lambda a, b: -pixel_distance(a, b)),
            # the sum of differences is a distance in grey levels
            "EMD of grey histograms": (cumulated, lambda a, b: -np.abs(a - b).sum(axis=1)),
        }
    parts = [slice(at, at + _PAIRS_AT_ONCE) for at in range(0, len(pairs), _PAIRS_AT_ONCE)]
    with progress.Progress(len(pairs) * len(scorers), f"score {pairs.name}", "pair") as line:

        def compare(
            values: np.ndarray, similarity: Callable[[np.ndarray, np.ndarray], np.ndarray]
        ) -> np.ndarray:
            found = []
            for part in parts:
                found.append(similarity(values[pairs.first[part]], values[pairs.second[part]]))
                line.update(len(found[-1]))
            return np.concatenate(found)

        return {name: compare(*scorer) for name, scorer in scorers.items()}


def _with_arrays(
    similarity: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda a, b: similarity(tf.constant(a), tf.constant(b)).numpy()


def pixel_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distance, float32 [n], of images [n, height, width, ...] in [0, 255]."""
    difference = first.astype(np.float32) - second.astype(np.float32)
    return np.sqrt((difference**2).reshape(len(first), -1).sum(axis=1))


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean structural similarity over local windows.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
    structural similarity", IEEE Transactions on Image Processing 13(4), 2004, equation 13, here
    with a square window of even weights.

    Args:
      first, second: grey images [n, height, width] in [0, 255].

    Returns:
      float64 [n] in [-1, 1], 1 for equal images.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = _local_mean(first), _local_mean(second)
    variance_a = _local_mean(first * first) - mean_a**2
    variance_b = _local_mean(second * second) - mean_b**2
    covariance = _local_mean(first * second) - mean_a * mean_b
    c1, c2 = (_SSIM_K1 * _SSIM_RANGE) ** 2, (_SSIM_K2 * _SSIM_RANGE) ** 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return similarity.mean(axis=(1, 2))


def _local_mean(images: np.ndarray) -> np.ndarray:
    """Mean over every window that lies inside the image, by summed areas."""
    sums = np.pad(images, ((0, 0), (1, 0), (1, 0))).cumsum(axis=1).cumsum(axis=2)
    size = _SSIM_WINDOW
    corners = (
        sums[:, size:, size:]
        - sums[:, size:, :-size]
        - sums[:, :-size, size:]
        + sums[:, :-size, :-size]
    )
    return corners / size**2
