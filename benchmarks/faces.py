"""How fast synthetic faces are drawn, and how far raw pixels and SSIM get at verifying them.

A fresh set is rendered to a temporary folder with everything that tools/make_faces.py does. The accuracy is on balanced
genuine/impostor pairs: the threshold is chosen on the pairs of one half of the people and scored on those of the other half.

python benchmarks/faces.py --json=/tmp/faces.json
"""

import dataclasses
import tempfile
import time

import numpy as np

from fv import cli, workers
from fv.benchmarking import figures
from fv.evaluation import baselines
from fv.faces import camera, dataset
from fv.options import option

CHUNK = 500  # pairs compared at once, so that memory stays small


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
    figures.publish(measure(options), options.json)


def measure(options: BenchmarkOptions) -> dict:
    """Returns the rate in images per minute, and the accuracy of either baseline in [0, 1]."""
    with tempfile.TemporaryDirectory() as folder:
        shared = ("identities", "images_per_identity", "image_size", "seed", "workers")
        faces = dataset.FacesOptions(output=folder, **{name: getattr(options, name) for name in shared})
        start = time.perf_counter()
        count = dataset.write_dataset(faces)
        seconds = time.perf_counter() - start
        images = _read_all(faces)
    greys = camera.grey(images)
    accuracies = {
        "pixel_distance_accuracy": _accuracy(images, lambda a, b: -baselines.pixel_distance(a, b), options.pairs),
        "ssim_accuracy": _accuracy(greys, baselines.ssim, options.pairs),
    }
    return dict(images=count, cores=workers.cores(), images_per_minute=round(60 * count / seconds), **accuracies)


def _read_all(faces: dataset.FacesOptions) -> np.ndarray:
    """Images (identities, images per identity, H, W, 3) uint8."""
    return np.stack(
        [[_read(faces, who, image) for image in range(faces.images_per_identity)] for who in range(faces.identities)]
    )


def _read(faces: dataset.FacesOptions, who: int, image: int) -> np.ndarray:
    with open(dataset.image_path(faces.output, who, image), "rb") as file:
        return camera.decode(file.read())


def _accuracy(images: np.ndarray, similarity, pairs: int) -> float:
    """Accuracy with the threshold of the other half of the people, the mean of both ways round."""
    halves = [_score(images, similarity, half, pairs) for half in (0, 1)]
    thresholds = [baselines.best_threshold(*half) for half in halves]
    return round(float(np.mean([baselines.accuracy(*halves[half], thresholds[1 - half]) for half in (0, 1)])), 4)


def _score(images: np.ndarray, similarity, half: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    people = np.arange(half, images.shape[0], 2)
    first, second, genuine = baselines.sample_pairs(people, images.shape[1], pairs, seed=half)
    chunks = [slice(start, start + CHUNK) for start in range(0, pairs, CHUNK)]
    scores = [similarity(images[tuple(first[chunk].T)], images[tuple(second[chunk].T)]) for chunk in chunks]
    return np.concatenate(scores), genuine


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
