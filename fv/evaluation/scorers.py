"""Similarities of pairs from the descriptions of their images: the model's, and those of baselines that learned nothing."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from fv.evaluation import baselines
from fv.evaluation.describing import Description
from fv.evaluation.pair_set import PairSet
from fv.model import heads
from fv.model.siamese import Siamese

MODEL = "fv"
_CHUNK = 1024  # pairs compared at once: SSIM holds some hundred MB for them
_GREYS = 256


def score(pairs: PairSet, found: Description, model: Siamese) -> dict[str, np.ndarray]:
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
            "SSIM": _over(pairs, found.greys, baselines.ssim),
            "raw-pixel L2": _over(pairs, found.greys, lambda a, b: -baselines.pixel_distance(a, b)),
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
