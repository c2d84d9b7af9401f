"""How far an encoder in another format is from the one that was trained: embeddings, accuracy, TAR, size, latency."""

import os
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from fv import metrics, preprocess
from fv.model.siamese import Siamese
from fv.pipeline import input_pipeline
from fv.pipeline.input_pipeline import PairSource
from fv.serving import engines
from fv.serving.engines import Embed

Choose = Callable[[np.ndarray, np.ndarray], float]
FAR = 0.1  # where TAR is compared
_BATCH_SIZE = 32  # pairs
_TIMED_CALLS = 20
_BYTES_PER_MB = 1_000_000


def compare(
    paths: list[str],
    model: Siamese,
    pairs: PairSource,
    threshold: float,
    chosen_on: PairSource,
    choose: Choose,
) -> list[dict]:
    """Measures the trained encoder and each file on the same labelled pairs.

    Args:
      paths: files that `formats.write` wrote.
      model: the trained one, in float32.
      pairs: that neither trained it nor chose a threshold.
      threshold: of the export.
      chosen_on: pairs on which a file's own threshold is chosen: fewer bits move the scores.
      choose: the rule, a function of similarities and labels.

    Returns:
      One row a format: `format`, `largest_difference` of an embedding's number to the trained encoder's, `accuracy` at the
      export's threshold, `own_threshold` and `accuracy_at_own`, `tar_at_far_0.1`, `megabytes` (None for the trained encoder)
      and `latency_ms` of one image (median).
    """
    pixels, labels = _pairs(pairs)
    own_pixels, own_labels = _pairs(chosen_on)
    compiled = tf.function(
        lambda images: model.encoder(images, training=False), reduce_retracing=True, autograph=False
    )

    def embed_trained(images: np.ndarray) -> np.ndarray:
        return compiled(tf.constant(images)).numpy()

    trained = _embed_all(embed_trained, pixels)
    rows = [
        _measure(
            "trained encoder",
            embed_trained,
            trained,
            trained,
            model,
            labels,
            pixels,
            threshold,
            threshold,
        )
    ]
    for path in paths:
        embed = engines.open_engine(path)
        own = choose(_similarities(model, _embed_all(embed, own_pixels)), own_labels)
        found = _embed_all(embed, pixels)
        row = _measure(
            os.path.basename(path), embed, found, trained, model, labels, pixels, threshold, own
        )
        rows.append(row | {"megabytes": os.path.getsize(path) / _BYTES_PER_MB})
    return rows


def pixels_of(pairs: PairSource, count: int) -> np.ndarray:
    """The first images of some pairs as the network sees them, uint8 [up to count, side, side, 3]."""
    batch = next(iter(input_pipeline.evaluation_batches(pairs, batch_size=count)))
    images = batch["images"].numpy()[batch["valid"].numpy()]
    return images.reshape(-1, *images.shape[2:])[:count]


def _pairs(pairs: PairSource) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, 2, side, side, 3] and labels int32 [n]."""
    batches = list(
        input_pipeline.evaluation_batches(pairs, batch_size=_BATCH_SIZE).as_numpy_iterator()
    )
    valid = np.concatenate([batch["valid"] for batch in batches])
    return tuple(
        np.concatenate([batch[name] for batch in batches])[valid] for name in ("images", "label")
    )


def _embed_all(embed: Embed, pixels: np.ndarray) -> np.ndarray:
    side = pixels.shape[2]
    flat = pixels.reshape(-1, side, side, preprocess.CHANNELS)
    parts = [embed(flat[start : start + _BATCH_SIZE]) for start in range(0, len(flat), _BATCH_SIZE)]
    return np.concatenate(parts).reshape(len(pixels), 2, -1)


def _similarities(model: Siamese, embeddings: np.ndarray) -> np.ndarray:
    return model.head.similarity(embeddings[:, 0], embeddings[:, 1]).numpy()


def _measure(
    name: str,
    embed: Embed,
    found,
    trained,
    model: Siamese,
    labels,
    pixels,
    threshold: float,
    own_threshold: float,
) -> dict:
    similarities = _similarities(model, found)
    return {
        "format": name,
        "largest_difference": float(np.abs(found - trained).max()),
        "accuracy": metrics.accuracy(similarities, labels, threshold),
        "own_threshold": own_threshold,
        "accuracy_at_own": metrics.accuracy(similarities, labels, own_threshold),
        f"tar_at_far_{FAR}": metrics.tar_at_far(similarities, labels, FAR).tar,
        "megabytes": None,
        "latency_ms": _latency(embed, pixels[0, :1]),
    }


def _latency(embed: Embed, image: np.ndarray) -> float:
    seconds = []
    for _ in range(_TIMED_CALLS):
        start = time.perf_counter()
        embed(image)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) * 1e3
