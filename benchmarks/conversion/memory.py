"""Whether memory stays flat from 10,000 to 100,000 small images, four pairs to an image."""

import os

import numpy as np
import simplejpeg

from benchmarks.conversion import command
from benchmarks.conversion.options import BenchmarkOptions

SIZES = (10_000, 100_000)  # images
IMAGES_PER_IDENTITY = 10
PAIRS_PER_IMAGE = 4
PAIRS_PER_SHARD = 2_000  # so that what a worker holds is the same in both
SIDE, CELL = 32, 4  # pixels


def measure(options: BenchmarkOptions, folder: str) -> dict:
    """Peak memory of both conversions in MB, seconds, and what each image and pair more took, in bytes."""
    root, figures, peaks = os.path.join(folder, "people"), {}, []
    os.mkdir(root)
    made = 0
    for images in SIZES:
        _draw(root, range(made, images), options.seed)
        made, pairs = images, images * PAIRS_PER_IMAGE
        flags = [f"--images={root}", f"--output={folder}/small", f"--pairs={pairs}", "--overwrite"]
        seconds, peak = command.run(
            [*flags, f"--shards={pairs // PAIRS_PER_SHARD}", f"--workers={options.processes}"]
        )
        figures[f"{images}_images"] = {
            "pairs": pairs,
            "peak_mb": round(peak / 1e6, 1),
            "seconds": round(seconds, 1),
        }
        peaks.append(peak)
    more = (SIZES[1] - SIZES[0]) * (1 + PAIRS_PER_IMAGE)
    return {**figures, "bytes_for_each_more_image_or_pair": round((peaks[1] - peaks[0]) / more, 1)}


def _draw(root: str, numbers: range, seed: int) -> None:
    """Small pictures of random squares, each its own."""
    for number in numbers:
        person = os.path.join(root, f"person_{number // IMAGES_PER_IDENTITY:06d}")
        os.makedirs(person, exist_ok=True)
        cells = np.random.default_rng((seed, number)).integers(
            0, 256, (SIDE // CELL, SIDE // CELL, 3), np.uint8
        )
        with open(
            os.path.join(person, f"image_{number % IMAGES_PER_IDENTITY:04d}.jpg"), "wb"
        ) as file:
            file.write(
                simplejpeg.encode_jpeg(
                    np.ascontiguousarray(cells.repeat(CELL, 0).repeat(CELL, 1)), 75
                )
            )
