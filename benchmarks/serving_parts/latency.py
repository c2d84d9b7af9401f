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
_SAVED_MODEL, _ENCODER, _DECODING = "SavedModel, from files", "bare compiled encoder, from pixels", "bare decoding"


def measure(chosen: BenchmarkOptions) -> dict:
    """Milliseconds a call (p50, p99) and pairs a second, by engine and batch size; engines take turns call by call."""
    images = chosen.encoded(2 * max(BATCH_SIZES))
    return {f"batch {size}": _measure(chosen, images[: 2 * size], size) for size in BATCH_SIZES}


def _measure(chosen: BenchmarkOptions, images: list[bytes], size: int) -> dict:
    calls = _calls(chosen, images, size)
    seconds = {name: [] for name in calls}
    rng = np.random.default_rng(chosen.seed)
    for turn in range(_WARM_UP + chosen.repeats):
        for name in rng.permutation(list(calls)):  # threads of the one before still spin for a while: each follows each
            start = time.perf_counter()
            calls[name]()
            if turn >= _WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    rows = {name: _row(np.array(taken), size) for name, taken in seconds.items()}
    # Of each turn, so that a slow moment of the machine is in both.
    parts = np.array(seconds[_ENCODER]) + np.array(seconds[_DECODING])
    beyond = np.median(np.array(seconds[_SAVED_MODEL]) - parts) / np.median(seconds[_ENCODER])
    return rows | {"SavedModel beyond encoder and decoding, share of the encoder": round(float(beyond), 4)}


def _row(seconds: np.ndarray, size: int) -> dict:
    p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "pairs_per_second": round(size * 1e3 / p50, 1)}


def _calls(chosen: BenchmarkOptions, images: list[bytes], size: int) -> dict[str, Callable[[], object]]:
    held = model_record.load(chosen.workdir)
    model, _ = restoring.load_model(chosen.workdir, held)
    side, crop = held.options.image_size, held.options.crop_fraction
    encoded = tf.constant(images)
    pixel_spec = tf.TensorSpec([side, side, preprocess.CHANNELS], tf.uint8)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def decode(batch):
        return tf.map_fn(lambda one: preprocess.load_jpeg(one, side, crop), batch, fn_output_signature=pixel_spec)

    @tf.function(input_signature=[tf.TensorSpec([None, *pixel_spec.shape], tf.uint8)], autograph=False)
    def encode(batch):
        return model.encoder(batch, training=False)

    served = tf.saved_model.load(chosen.model).signatures["serving_default"]
    pixels = decode(encoded)
    as_array = pixels.numpy()
    calls = {
        _SAVED_MODEL: lambda: served(image_a=encoded[:size], image_b=encoded[size:])["same"].numpy(),
        _ENCODER: lambda: encode(pixels).numpy(),
        _DECODING: lambda: decode(encoded).numpy(),
    }
    for path in sorted(pathlib.Path(chosen.model, formats.FOLDER).glob("*")):
        engine = engines.open_engine(str(path))
        calls[f"{path.name}, from pixels"] = lambda engine=engine: engine(as_array)
    return calls
