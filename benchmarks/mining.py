"""Measures the search for hard pairs on random embeddings: time, CPU time and memory.

python benchmarks/mining.py --images=100000 --json=/tmp/mining.json
"""

import dataclasses
import resource
import time

import numpy as np

from fv import cli, files, partner_search
from fv.options import option
from fv.partner_search import FixedPoint

IMAGES_PER_IDENTITY = 10
SPREAD = 1.5  # of an identity's images around its centre, in each number; the centres' own is 1
KIB_PER_MIB = 1024


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What the benchmark takes."""

    images: int = option(100_000, "Images.", lower=20)
    embedding_size: int = option(128, "Numbers in an embedding.", lower=2)
    partners: int = option(21, "Partners found of each image.", lower=1)
    seed: int = option(0, "Of the embeddings.", lower=0)
    json: str | None = option(None, "File to write the figures to.")


def main(options: BenchmarkOptions) -> None:
    """Prints one line for each search, and writes `--json`."""
    owners = np.arange(options.images) // IMAGES_PER_IDENTITY
    embeddings = _embeddings(options, owners)
    figures: dict = {"images": options.images, "before_mib": _peak_mib()}
    for name, genuine in (("nearest_impostors", False), ("farthest_genuine", True)):
        began, cpu = time.perf_counter(), time.process_time()
        partner_search.find_partners(embeddings, owners, options.partners, genuine=genuine)
        took = {
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - cpu,
            "peak_mib": _peak_mib(),
        }
        figures[name] = {key: round(value, 2) for key, value in took.items()}
        print(name, figures[name], flush=True)
    if options.json:
        files.save_json(figures, options.json)


def _embeddings(options: BenchmarkOptions, owners: np.ndarray) -> FixedPoint:
    rng, size = np.random.default_rng(options.seed), options.embedding_size
    vectors = rng.standard_normal((owners[-1] + 1, size), np.float32)[owners]
    vectors += SPREAD * rng.standard_normal((options.images, size), np.float32)
    return FixedPoint.of(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_MIB


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
