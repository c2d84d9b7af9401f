"""Measures how fast synthetic faces are drawn, and how well raw pixels and SSIM verify them.

The accuracy is on balanced genuine and impostor pairs: the threshold is chosen on the pairs of one
half of the people and scored on those of the other half, both ways round.

python benchmarks/faces.py --json=/tmp/faces.json
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable

import numpy as np

from fv import cli, files, metrics, workers
from fv.evaluation import scores as scores_module
from fv.faces import dataset, renderer
from fv.options import option

CHUNK = 500  # pairs compared at once, which bounds the memory
RENDERED = 100  # images of the rate on one core
LUMA = np.asarray((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601

Scores = tuple[np.ndarray, np.ndarray]  # similarities (pairs,), genuine (pairs,) bool


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What the benchmark takes."""

    identities: int = option(200, "How many people to draw.", lower=4)
    images_per_identity: int = option(10, "How many images of each.", lower=2)
    image_size: int = option(112, "Width and height in pixels.", lower=32)
    seed: int = option(1, "Which people.", lower=0)
    pairs: int = option(4000, "Pairs on each half of the people.", lower=100)
    workers: int = option(0, "Processes that render; 0 is one per core.", lower=0)
    json: str | None = option(None, "File to write the figures to.")


def main(options: BenchmarkOptions) -> None:
    figures = measure(options)
    print(files.to_json(figures, indent=2))
    if options.json:
        files.save_json(figures, options.json)


def measure(options: BenchmarkOptions) -> dict:
    """Returns the rates, and the accuracy of either baseline in [0, 1]."""
    with tempfile.TemporaryDirectory() as folder:
        shared = ("identities", "images_per_identity", "image_size", "seed", "workers")
        faces = dataset.FacesOptions(
            output=folder, **{name: getattr(options, name) for name in shared}
        )
        start = time.perf_counter()
        count = dataset.write_dataset(faces)
        seconds = time.perf_counter() - start
        people, each = options.identities, options.images_per_identity
        images = np.stack(list(dataset.read_images(faces, people, each)))
    images = images.reshape(people, each, *images.shape[1:])
    start = time.process_time()
    for image in range(RENDERED):
        renderer.render_jpeg(options.seed, image, 0, options.image_size)
    core_seconds = time.process_time() - start
    return dict(
        images=count,
        cores=workers.available_cores(),
        images_per_minute=round(60 * count / seconds),
        images_per_core_second=round(RENDERED / core_seconds, 1),
        pixel_distance_accuracy=_accuracy(
            images, lambda a, b: -scores_module.pixel_distance(a, b), options.pairs
        ),
        ssim_accuracy=_accuracy(to_grey(images), scores_module.ssim, options.pairs),
    )


def to_grey(images: np.ndarray) -> np.ndarray:
    """Luma (..., height, width) float32 in [0, 255] of RGB images (..., height, width, 3) uint8."""
    return images.astype(np.float32) @ LUMA


def _accuracy(images: np.ndarray, similarity: Callable, pairs: int) -> float:
    """Accuracy with the threshold of the other half of the people, the mean of both ways round."""
    halves = [score(images, similarity, half, pairs) for half in (0, 1)]
    thresholds = [metrics.roc(*half).best_threshold() for half in halves]
    both = [metrics.accuracy(*halves[half], thresholds[1 - half]) for half in (0, 1)]
    return round(float(np.mean(both)), 4)


def score(images: np.ndarray, similarity: Callable, half: int, pairs: int) -> Scores:
    """Scores random pairs of images of every other person.

    Args:
      images: (identities, images per identity, H, W, ...).
      similarity: function of two arrays of images, more is more alike.
      half: 0 for the people of even numbers, 1 for the others.
      pairs: how many to draw.

    Returns:
      Similarities [pairs], and whether each pair is genuine.
    """
    people = np.arange(half, images.shape[0], 2)
    first, second, genuine = _sample_pairs(people, images.shape[1], pairs, seed=half)
    chunks = [slice(start, start + CHUNK) for start in range(0, pairs, CHUNK)]
    scores = [
        similarity(images[tuple(first[chunk].T)], images[tuple(second[chunk].T)])
        for chunk in chunks
    ]
    return np.concatenate(scores), genuine


def _sample_pairs(
    identities: np.ndarray, images: int, pairs: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Balanced pairs: even places hold two images of one person, odd places images of two people.

    Args:
      identities: numbers of the people to draw from, at least two.
      images: how many images each has, at least two.
      pairs: how many pairs to draw.
      seed: fixes the draw.

    Returns:
      first (pairs, 2) and second (pairs, 2), rows of (identity, image), and genuine (pairs,) bool.
    """
    rng = np.random.default_rng(seed)
    genuine = np.arange(pairs) % 2 == 0
    people = np.stack([rng.choice(identities, 2, replace=False) for _ in range(pairs)])
    people[genuine, 1] = people[genuine, 0]
    shots = np.stack([rng.choice(images, 2, replace=False) for _ in range(pairs)])
    return (
        np.stack([people[:, 0], shots[:, 0]], 1),
        np.stack([people[:, 1], shots[:, 1]], 1),
        genuine,
    )


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
