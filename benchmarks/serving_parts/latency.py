"""Latency and rate of every engine at three batch sizes, and what the SavedModel takes beyond encoder and decoding."""

import pathlib
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from benchmarks.serving_parts.options import BenchmarkOptions
from fv import preprocess
from fv.model import model_record, restoring
from fv.serving import engines, formats

BATCH_SIZES = (1, 8, 32)  # pairs
_WARM_UP = 3  # calls
Calls = dict[str, Callable[[], object]]
_SAVED_MODEL, _ENCODER, _DECODING = (
    "SavedModel, from files",
    "bare compiled encoder, from pixels",
    "bare decoding",
)


def measure(chosen: BenchmarkOptions) -> dict:
    """Milliseconds a call (p50, p99) and pairs a second, by engine and batch size; engines take turns call by call.

    What the SavedModel takes beyond encoder and decoding is of a second round of these three alone: the threads of other
    engines spin for a while after their call, on the cores of the next.
    """
    images = chosen.encoded(2 * max(BATCH_SIZES))
    bare = {size: _bare_calls(chosen, images[: 2 * size], size) for size in BATCH_SIZES}
    beyond = {size: _beyond(_take_turns(chosen, bare[size])) for size in BATCH_SIZES}
    found = {}
    for size in BATCH_SIZES:
        calls = bare[size] | _engine_calls(chosen, images[: 2 * size])
        rows = {name: _row(taken, size) for name, taken in _take_turns(chosen, calls).items()}
        found[f"batch {size}"] = rows | beyond[size]
    return found


def _take_turns(chosen: BenchmarkOptions, calls: Calls) -> dict[str, np.ndarray]:
    """Seconds of each call in each turn."""
    seconds = {name: [] for name in calls}
    rng = np.random.default_rng(chosen.seed)
    for turn in range(_WARM_UP + chosen.repeats):
        for name in rng.permutation(list(calls)):  # each follows each
            start = time.perf_counter()
            calls[name]()
            if turn >= _WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(taken) for name, taken in seconds.items()}


def _beyond(seconds: dict[str, np.ndarray]) -> dict[str, float]:
    """Medians over turns, so that a slow moment of the machine is in both sides of a difference."""
    beyond = np.median(seconds[_SAVED_MODEL] - seconds[_ENCODER] - seconds[_DECODING])
    encoder = np.median(seconds[_ENCODER])
    return {
        "SavedModel beyond encoder and decoding, ms": round(float(beyond) * 1e3, 3),
        "the same as a share of the encoder": round(float(beyond / encoder), 4),
        "the encoder of these turns, ms": round(float(encoder) * 1e3, 3),
    }


def _row(seconds: np.ndarray, size: int) -> dict:
    p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
    return {
        "p50_ms": round(p50, 2),
        "p99_ms": round(p99, 2),
        "pairs_per_second": round(size * 1e3 / p50, 1),
    }


def _bare_calls(chosen: BenchmarkOptions, images: list[bytes], size: int) -> Calls:
    """The SavedModel, and the two parts of its work."""
    held = model_record.load(chosen.workdir)
    model, _ = restoring.load_model(chosen.workdir, held)
    side, crop = held.options.image_size, held.options.crop_fraction
    encoded = tf.constant(images)
    pixel_spec = tf.TensorSpec([side, side, preprocess.CHANNELS], tf.uint8)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def decode(batch):
        return tf.map_fn(
            lambda one: preprocess.load_jpeg(one, side, crop), batch, fn_output_signature=pixel_spec
        )

    @tf.function(
        input_signature=[tf.TensorSpec([None, *pixel_spec.shape], tf.uint8)], autograph=False
    )
    def encode(batch):
        return model.encoder(batch, training=False)

    served = tf.saved_model.load(chosen.model).signatures["serving_default"]
    pixels = decode(encoded)
    return {
        _SAVED_MODEL: lambda: served(image_a=encoded[:size], image_b=encoded[size:])[
            "same"
        ].numpy(),
        _ENCODER: lambda: encode(pixels).numpy(),
        _DECODING: lambda: decode(encoded).numpy(),
    }


def _engine_calls(chosen: BenchmarkOptions, images: list[bytes]) -> Calls:
    """The exported formats, on decoded pixels."""
    held = model_record.load(chosen.workdir).options
    loaded = [
        preprocess.load_jpeg(tf.constant(image), held.image_size, held.crop_fraction).numpy()
        for image in images
    ]
    calls, pixels = {}, np.stack(loaded)
    for path in sorted(pathlib.Path(chosen.model, formats.FOLDER).glob("*")):
        engine = engines.open_engine(str(path))
        calls[f"{path.name}, from pixels"] = lambda engine=engine: engine(pixels)
    return calls
