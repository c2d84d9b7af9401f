"""Measures an export: latency beside other engines, concurrent callers, hostile images.

    python -m benchmarks.serving --workdir=runs/lfw --model=export/1 --images=lfw --json=FILE

Each part is a function `measure_PART`.
"""

import dataclasses
import functools
import io
import pathlib
import re
import resource
import time
from collections.abc import Callable
from concurrent import futures

from fv import quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise

# isort: split

import numpy as np
import tensorflow as tf
from PIL import Image

import fv
from benchmarks import hostile_images, parts
from fv import cli, image_ops, progress
from fv.errors import UserError
from fv.model import checkpoint_files, model_record
from fv.options import option, required
from fv.serving import formats
from fv.serving.engine import ENGINES, ONNX, TENSORFLOW, load_engine, share_cores_by_image

PARTS = ("latency", "engines", "concurrency", "fuzz")
TOLERANCE = 1e-5  # of a similarity
Calls = dict[str, Callable[[], object]]


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured, and on what."""

    workdir: str = required("folder that fv.train wrote: the bare encoder comes from it")
    model: str = required(
        "version folder that fv.export wrote from it, best with --formats=saved_model,tflite,onnx"
    )
    images: str = required("folder that holds one folder of JPEG images per person")
    parts: str = option(",".join(PARTS), f"Which parts to run, of {', '.join(PARTS)}, with commas.")
    repeats: int = option(60, "Calls of each engine at each batch size, in turn.", lower=3)
    requests: int = option(320, "Requests of the concurrent callers together.", lower=16)
    mutants: int = option(10_000, "Damaged images.", lower=1)
    seed: int = option(0, "Of the damage, and of the order of engines.", lower=0)
    json: str | None = option(None, "File to write the figures to.")


def main(options: BenchmarkOptions) -> None:
    """Runs the parts one after the other."""
    parts.run(
        options.parts, PARTS, lambda part: globals()[f"measure_{part}"](options), options.json
    )


# Part `latency`: engines take turns, call by call.

BATCH_SIZES = (1, 8, 32)  # pairs
WARM_UP_CALLS = 3
SETTLING_SECONDS = 0.02  # before a call: threads of other engines spin for a while after theirs
SAVED_MODEL = "SavedModel, from files"
ENCODER = "bare compiled encoder, from pixels"
DECODING = "bare decoding"


def measure_latency(options: BenchmarkOptions) -> dict:
    """Returns milliseconds a call (p50, p99) and pairs/s, by batch size and engine.

    The overhead of the SavedModel comes from a round of these three alone, as other engines fill
    the caches.
    """
    share_cores_by_image()
    images = parts.read_images(options.images, 2 * max(BATCH_SIZES))
    bare = {size: _bare_calls(options, images[: 2 * size], size) for size in BATCH_SIZES}
    overheads = {size: _overhead(_take_turns(options, bare[size])) for size in BATCH_SIZES}
    found = {}
    for size in BATCH_SIZES:
        calls = bare[size] | _engine_calls(options, images[: 2 * size])
        taken = _take_turns(options, calls)
        rows = {name: _summarise(seconds, size) for name, seconds in taken.items()}
        found[f"batch {size}"] = rows | overheads[size]
    return found


def _take_turns(options: BenchmarkOptions, calls: Calls) -> dict[str, np.ndarray]:
    """Returns the seconds of each call in each turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    rng = np.random.default_rng(options.seed)
    for turn in range(WARM_UP_CALLS + options.repeats):
        for name in rng.permutation(list(calls)):  # each follows each
            time.sleep(SETTLING_SECONDS)
            start = time.perf_counter()
            calls[name]()
            if turn >= WARM_UP_CALLS:
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(taken) for name, taken in seconds.items()}


def _overhead(seconds: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns medians over turns, so that a busy moment is in both sides of a difference."""
    beyond = np.median(seconds[SAVED_MODEL] - seconds[ENCODER] - seconds[DECODING])
    encoder = np.median(seconds[ENCODER])
    return {
        "SavedModel beyond encoder and decoding, ms": round(float(beyond) * 1e3, 3),
        "the same as a share of the encoder": round(float(beyond / encoder), 4),
        "the encoder of these turns, ms": round(float(encoder) * 1e3, 3),
    }


def _summarise(seconds: np.ndarray, size: int) -> dict:
    p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
    rate = round(size * 1e3 / p50, 1)
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "pairs_per_second": rate}


def _bare_calls(options: BenchmarkOptions, images: list[bytes], size: int) -> Calls:
    """Returns calls of the SavedModel and of the two parts of its work."""
    decode, encode = _load_bare(options.workdir)
    served = _load_served(options.model)
    encoded = tf.constant(images)
    pixels, first, second = decode(encoded), encoded[:size], encoded[size:]
    return {
        SAVED_MODEL: lambda: served(image_a=first, image_b=second)["same"].numpy(),
        ENCODER: lambda: encode(pixels).numpy(),
        DECODING: lambda: decode(encoded).numpy(),
    }


@functools.cache
def _load_bare(workdir: str) -> tuple[Callable, Callable]:
    """Returns compiled functions: image files to pixels, and pixels to embeddings."""
    held = model_record.load(workdir)
    model, _ = checkpoint_files.load_model(workdir, held)
    side, crop = held.options.image_size, held.options.crop_fraction
    spec = tf.TensorSpec([side, side, image_ops.CHANNELS], tf.uint8)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def decode(batch):
        def load(one):
            return image_ops.jpeg_to_input(one, side, crop)

        return tf.map_fn(load, batch, fn_output_signature=spec)

    @tf.function(input_signature=[tf.TensorSpec([None, *spec.shape], tf.uint8)], autograph=False)
    def encode(batch):
        return model.encoder(batch, training=False)

    return decode, encode


@functools.cache
def _load_served(model: str) -> Callable:
    return tf.saved_model.load(model).signatures["serving_default"]


def _engine_calls(options: BenchmarkOptions, images: list[bytes]) -> Calls:
    """Returns calls of the exported formats, on decoded pixels."""
    pixels = _load_bare(options.workdir)[0](tf.constant(images)).numpy()
    opened = _open_engines(options.model)
    return {name: functools.partial(engine, pixels) for name, engine in opened.items()}


@functools.cache
def _open_engines(model: str) -> dict[str, formats.Embed]:
    paths = sorted(pathlib.Path(model, formats.FOLDER).glob("*"))
    return {f"{path.name}, from pixels": formats.open_engine(str(path)) for path in paths}


# Part `engines`: the values of --engine, alone in turn, from files to answers.


def measure_engines(options: BenchmarkOptions) -> dict:
    """Returns milliseconds a call by batch size and engine, their ratio, and their agreement."""
    share_cores_by_image()
    images = parts.read_images(options.images, 2 * max(BATCH_SIZES))
    loaded = {name: load_engine(options.model, name) for name in ENGINES}
    found = {}
    for size in BATCH_SIZES:
        pairs = {"image_a": images[:size], "image_b": images[size : 2 * size]}
        calls: Calls = {
            name: functools.partial(engine.run, "serving_default", pairs)
            for name, engine in loaded.items()
        }
        taken = _take_turns(options, calls)
        ratio = np.median(taken[TENSORFLOW]) / np.median(taken[ONNX])
        first, second = (
            engine.run("serving_default", pairs)["similarity"] for engine in loaded.values()
        )
        found[f"batch {size}"] = {
            name: _summarise(seconds, size) for name, seconds in taken.items()
        } | {
            "tensorflow over onnx": round(float(ratio), 2),
            "largest difference of similarities": float(np.abs(first - second).max()),
        }
    return found


# Part `concurrency`: callers of one loaded SavedModel; one request in eight has a broken image.

THREADS = (1, 4, 16)
DISTINCT_PAIRS = 32
BROKEN_EVERY = 8  # requests


def measure_concurrency(options: BenchmarkOptions) -> dict:
    """Returns pairs/s, latency, and answers lost, mixed up or failed, by number of threads."""
    verifier, images = (
        fv.Verifier(options.model),
        parts.read_images(options.images, 2 * DISTINCT_PAIRS),
    )
    pairs = list(zip(images[::2], images[1::2], strict=True))
    wanted = np.array([verifier.verify(*pair).similarity for pair in pairs])
    found = {
        f"{threads} threads": _call(verifier, pairs, wanted, threads, options.requests)
        for threads in THREADS
    }
    least = float(np.diff(np.sort(wanted)).min())
    return found | {"smallest difference between two pairs' similarities": least}


def _call(
    verifier: fv.Verifier, pairs: list, wanted: np.ndarray, threads: int, requests: int
) -> dict:
    def ask(index: int) -> tuple[float, float]:
        begun, pair = time.perf_counter(), pairs[index % DISTINCT_PAIRS]
        if index % BROKEN_EVERY == 0:
            pair = pair[0], pair[1][: len(pair[1]) // 2]
        try:
            answer = verifier.verify(*pair).similarity
        except UserError:
            answer = np.nan
        return answer, time.perf_counter() - begun

    start = time.perf_counter()
    with futures.ThreadPoolExecutor(threads) as pool:
        answers, latencies = np.array(list(pool.map(ask, range(requests)))).T
    seconds = time.perf_counter() - start
    broken = np.arange(requests) % BROKEN_EVERY == 0
    off = np.abs(answers - wanted[np.arange(requests) % DISTINCT_PAIRS])[~broken]
    p50, p99 = np.percentile(latencies[~broken], (50, 99)) * 1e3
    return {
        "pairs_per_second": round(requests / seconds, 1),
        "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1),
        "lost": requests - len(answers),
        "mixed": int(np.sum(off > TOLERANCE)),
        "sound_pairs_failed": int(np.isnan(answers[~broken]).sum()),
        "broken_images_answered": int(np.sum(~np.isnan(answers[broken]))),
    }


# Part `fuzz`: damaged images get a verdict or one clear error each.

SOURCES = 12  # photographs that damaged files are made of
EXIF_ORIENTATION, TURNED = 0x0112, 6
NAMED = re.compile(r"assertion failed: \[image_b\[1\] .+\]")


def measure_fuzz(options: BenchmarkOptions) -> dict:
    """Returns counts of answers and errors, the slowest call, and peak memory before and after."""
    verifier = fv.Verifier(options.model)
    serve = tf.saved_model.load(options.model).signatures["serving_default"]
    sources = [
        form
        for image in parts.read_images(options.images, SOURCES)
        for form in _encode_forms(image)
    ]
    good, slowest = sources[0], 0.0
    alone, before = verifier.verify(good, good).similarity, _peak_mb()
    counts = dict.fromkeys(("verdicts", "clear_errors", "other", "disagreements"), 0)
    with progress.Progress(options.mutants, "fuzz", "image") as line:
        for mutant in hostile_images.mutate(sources, options.mutants, options.seed):
            start = time.perf_counter()
            served = _ask_signature(serve, mutant, good, alone)
            verified = _ask_verifier(verifier, mutant, good)
            slowest = max(slowest, time.perf_counter() - start)
            counts[served] += 1
            counts["disagreements"] += served != verified
            line.update()
    memory = [before, _peak_mb()]
    slowest = round(slowest, 3)
    return {"mutants": options.mutants, **counts, "slowest_seconds": slowest, "memory_mb": memory}


def _encode_forms(jpeg: bytes) -> list[bytes]:
    """Returns a JPEG and its picture in seven other forms."""
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = TURNED
    see_through = image.copy()
    see_through.putalpha(128)
    palette = image.convert("P")
    plain = [(image, "PNG"), (see_through, "PNG"), (image, "BMP"), (palette, "BMP"), (image, "GIF")]
    forms: list[tuple[Image.Image, str, dict]] = [(picture, name, {}) for picture, name in plain]
    forms += [(image, "JPEG", {"exif": exif}), (image, "JPEG", {"progressive": True})]
    encoded = [jpeg]
    for picture, name, settings in forms:
        file = io.BytesIO()
        picture.save(file, name, **settings)
        encoded.append(file.getvalue())
    return encoded


def _ask_signature(serve, mutant: bytes, good: bytes, alone: float) -> str:
    """Asks with the mutant second of two: an error names it, a verdict leaves the first's alone."""
    images = dict(image_a=tf.constant([good, good]), image_b=tf.constant([good, mutant]))
    try:
        similarity = serve(**images)["similarity"].numpy()
    except tf.errors.InvalidArgumentError as error:
        return "clear_errors" if NAMED.search(str(error)) else "other"
    sound = abs(similarity[0] - alone) < TOLERANCE and np.isfinite(similarity[1])
    return "verdicts" if sound else "other"


def _ask_verifier(verifier: fv.Verifier, mutant: bytes, good: bytes) -> str:
    try:
        verifier.verify(good, mutant)
    except UserError as error:
        return "clear_errors" if "\n" not in str(error) else "other"
    return "verdicts"


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
