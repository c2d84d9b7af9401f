"""Compares SavedModels and ONNX Runtime on the same image files, call by call in turn.

    python -m benchmarks.engines --models=export/1,export/2 --images=lfw

Each version is called as a SavedModel, and by ONNX Runtime if it has `formats/encoder.onnx`.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable

from fv import quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise

# isort: split

import numpy as np
import tensorflow as tf

from fv import cli, files
from fv.options import option, required
from fv.serving import onnx_engine

BATCH_SIZES = (1, 8, 32)  # pairs
WARM_UP_CALLS = 3


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is compared, and on what."""

    models: str = required("version folders that fv.export wrote, with commas")
    images: str = required("folder that holds one folder of JPEG images per person")
    repeats: int = option(30, "Calls of each engine at each batch size, in turn.", lower=3)
    seed: int = option(0, "Of the order of engines.", lower=0)


def main(options: BenchmarkOptions) -> None:
    """Prints milliseconds a call by batch size and engine."""
    paths = sorted(pathlib.Path(options.images).glob("*/*.jpg"))[: 2 * max(BATCH_SIZES)]
    images = np.array([path.read_bytes() for path in paths], object)
    engines = {}
    for folder in options.models.split(","):
        engines[f"{folder} SavedModel"] = _open_saved_model(folder)
        if os.path.exists(os.path.join(folder, onnx_engine.ENCODER)):
            engines[f"{folder} ONNX Runtime"] = onnx_engine.OnnxEngine(folder).run
    found = {f"{size} pairs": _compare(engines, images, size, options) for size in BATCH_SIZES}
    print(files.to_json(found, indent=2))


def _open_saved_model(folder: str) -> Callable:
    model = tf.saved_model.load(folder)

    def run(signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors = {name: tf.constant(values, tf.string) for name, values in inputs.items()}
        answers = model.signatures[signature](**tensors)
        return {name: answer.numpy() for name, answer in answers.items()}

    return run


def _compare(
    engines: dict[str, Callable], images: np.ndarray, size: int, options: BenchmarkOptions
) -> dict:
    inputs = {"image_a": images[:size], "image_b": images[-size:]}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
    similarities = {}
    rng = np.random.default_rng(options.seed)
    for turn in range(WARM_UP_CALLS + options.repeats):
        for name in rng.permutation(list(engines)):  # each follows each
            wall, cpu = time.perf_counter(), time.process_time()
            similarities[name] = engines[name]("serving_default", inputs)["similarity"]
            if turn >= WARM_UP_CALLS:
                taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    first = next(iter(similarities[name] for name in engines))
    return {
        name: {
            "min_ms": round(float(np.min(seconds, axis=0)[0]) * 1e3, 2),
            "p50_ms": round(float(np.median(seconds, axis=0)[0]) * 1e3, 2),
            "cpu_p50_ms": round(float(np.median(seconds, axis=0)[1]) * 1e3, 2),
            "largest_difference": float(np.abs(similarities[name] - first).max()),
        }
        for name, seconds in taken.items()
    }


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
