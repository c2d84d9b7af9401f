"""Exports the encoder for TFLite and ONNX, and measures how far each file is from the trained one.

The head stays in the SavedModel's `compare`; docs/serve.md gives its formula if it has no weights.
"""

import importlib.util
import math
import os
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
import tf_keras

from fv import embedding, files, image_ops, manifest, metrics, quiet_tensorflow, workers
from fv.calibration import OperatingPoint
from fv.errors import UserError
from fv.evaluation import pair_sources
from fv.evaluation.pairs import PairSet
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese
from fv.onnx_encoder import OnnxEncoder

SAVED_MODEL, TFLITE, ONNX = "saved_model", "tflite", "onnx"
FOLDER = "formats"  # in the folder of a version
FILES = {
    TFLITE: ("encoder_float32.tflite", "encoder_float16.tflite", "encoder_int8.tflite"),
    ONNX: ("encoder.onnx",),
}
_FAR = 0.1  # where TAR is compared
_PACKAGES = {SAVED_MODEL: (), TFLITE: ("ai_edge_litert",), ONNX: ("tf2onnx", "onnxruntime")}
_OPSET = 17  # of ONNX; the newest that tf2onnx 1.17 and onnxruntime since 1.13 share
_TRAINED = "trained encoder"
_RANGE_IMAGES = 100  # whose activations set the ranges of int8
_BATCH_SIZE = 32  # images
_PAIRS_AT_ONCE = 4096  # scored; bounds memory
_TIMED_CALLS = 20
_BYTES_PER_MB = 1_000_000

Embed = Callable[[np.ndarray], np.ndarray]


def parse_formats(text: str) -> tuple[str, ...]:
    """Returns the formats in a comma-separated list except the SavedModel, which is always written.

    Raises:
      UserError: a format is unknown, or a package that it needs is not installed.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in _PACKAGES:
            raise UserError(f"--formats={text}: '{name}' is none of {', '.join(_PACKAGES)}")
        for package in _PACKAGES[name]:
            if importlib.util.find_spec(package) is None:
                raise UserError(
                    f"--formats={text}: {name} needs {package}, which is not installed: "
                    f"pip install 'fv[{name}]'"
                )
    return tuple(name for name in names if name != SAVED_MODEL)


def load_examples(pairs: PairSet, options: ModelOptions) -> np.ndarray:
    """Decodes the first images of some pairs, uint8 [up to 100, side, side, 3]."""
    numbers = range(len(pairs.images.paths))[:_RANGE_IMAGES]
    return next(
        embedding.load_batches(pairs.images, numbers, options, len(numbers), {})
    ).pixels.numpy()


def write_formats(
    names: tuple[str, ...], folder: str, encoder: tf_keras.Model, examples: np.ndarray
) -> list[str]:
    """Writes an encoder in some formats.

    Args:
      names: of the formats, from `parse_formats`.
      folder: of a version; the files go into its folder `formats`.
      encoder: the trained encoder.
      examples: uint8 [n, side, side, 3], images whose activations set the ranges of int8.

    Returns:
      Paths of the files.
    """
    paths = []
    for name in names:
        os.makedirs(os.path.join(folder, FOLDER), exist_ok=True)
        with quiet_tensorflow.hold_back_stderr():  # converters write many lines
            written = _convert_lite(encoder, examples) if name == TFLITE else _convert_onnx(encoder)
            for file_name, data in zip(FILES[name], written, strict=True):
                paths.append(os.path.join(folder, FOLDER, file_name))
                with files.atomic_open(paths[-1], "wb") as file:
                    file.write(data)
    return paths


def _convert_lite(encoder: tf_keras.Model, examples: np.ndarray) -> Iterator[bytes]:
    """Yields float32, float16 weights, and int8 throughout."""
    yield _lite_converter(encoder, tf.uint8).convert()
    half = _lite_converter(encoder, tf.uint8)
    half.optimizations, half.target_spec.supported_types = [tf.lite.Optimize.DEFAULT], [tf.float16]
    yield half.convert()
    # A cast in the graph has no int8, so the input is float32 and the converter makes it uint8.
    whole = _lite_converter(encoder, tf.float32)
    whole.optimizations = [tf.lite.Optimize.DEFAULT]
    whole.representative_dataset = lambda: (
        [image[np.newaxis].astype(np.float32)] for image in examples
    )
    whole.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    whole.inference_input_type = tf.uint8
    yield whole.convert()


def _lite_converter(encoder: tf_keras.Model, dtype: tf.DType) -> tf.lite.TFLiteConverter:
    holder = tf.Module()
    holder.variables_of_encoder = encoder.variables
    return tf.lite.TFLiteConverter.from_concrete_functions(
        [_function(encoder, dtype).get_concrete_function()], holder
    )


def _convert_onnx(encoder: tf_keras.Model) -> Iterator[bytes]:
    import tf2onnx  # an extra

    function = _function(encoder, tf.uint8)
    model, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=_OPSET
    )
    yield model.SerializeToString(deterministic=True)


def _function(
    encoder: tf_keras.Model, dtype: tf.DType
) -> tf.types.experimental.PolymorphicFunction:
    side = encoder.input_shape[1]
    image = tf.TensorSpec([None, side, side, image_ops.CHANNELS], dtype, "image")

    @tf.function(input_signature=[image], autograph=False)
    def embed(image):
        return {"embedding": encoder(tf.cast(image, tf.float32), training=False)}

    return embed


def open_engine(path: str) -> Embed:
    """Loads an encoder that `write_formats` wrote, a .tflite or .onnx file.

    Returns:
      A function uint8 [batch, side, side, 3], RGB as `image_ops` makes it → float32 [batch, d].
      Threads may share it.
    """
    return _open_lite(path) if path.endswith(".tflite") else OnnxEncoder(path)


def _open_lite(path: str) -> Embed:
    from ai_edge_litert import interpreter  # an extra

    engine = interpreter.Interpreter(path, num_threads=workers.available_cores())
    lock = threading.Lock()
    image = engine.get_input_details()[0]["index"]
    output = engine.get_output_details()[0]["index"]
    engine.allocate_tensors()

    def embed(pixels: np.ndarray) -> np.ndarray:
        with lock:  # an interpreter holds the tensors of one call
            if tuple(engine.get_input_details()[0]["shape"]) != pixels.shape:
                engine.resize_tensor_input(image, pixels.shape)
                engine.allocate_tensors()
            engine.set_tensor(image, pixels)
            engine.invoke()
            return engine.get_tensor(output)

    return embed


def compare_formats(
    paths: list[str],
    model: Siamese,
    options: ModelOptions,
    held_out: PairSet,
    figures: dict | None,
    threshold: float,
    choose: Callable[[np.ndarray, np.ndarray], OperatingPoint],
) -> list[dict]:
    """Measures the trained encoder and each file on the pairs that fv.evaluate scored.

    Without an evaluation, or without its shards, it measures them on the held-out pairs.

    Args:
      paths: files that `write_formats` wrote.
      model: the trained one, in float32.
      options: of the model.
      held_out: pairs on which the own threshold of a file is chosen: fewer bits move the scores.
      figures: what fv.evaluate measured, if it did.
      threshold: of the export.
      choose: chooses the own threshold by similarities and labels.

    Returns:
      One row a format: `format`; `largest_difference` of a number of an embedding to the trained
      encoder's; `accuracy` at the export's threshold; `own_threshold` and `accuracy_at_own`;
      `tar_at_far_0.1`; `megabytes`, None for the trained encoder; and `latency_ms`, the median for
      one image.

    Raises:
      UserError: an image of the pairs cannot be decoded.
    """

    def embed_trained(pixels: np.ndarray) -> np.ndarray:
        return embedding.apply_encoder(model.encoder, tf.constant(pixels)).numpy()

    pairs = held_out
    if figures and files.exists(os.path.join(figures["tfrecords"], manifest.FILE_NAME)):
        pairs = pair_sources.read_shard_pairs(figures["tfrecords"], figures["split"])
    of_files = {path: open_engine(path) for path in paths}
    engines = {_TRAINED: embed_trained} | of_files
    found = _embed_images(engines, pairs, options)
    choosing = found if pairs is held_out else _embed_images(of_files, held_out, options)
    image = load_examples(pairs, options)[:1]
    rows = []
    for name, embed in engines.items():
        is_file = name != _TRAINED
        own = threshold
        if is_file:
            scores = score_pairs(held_out, choosing[name], model)
            own = choose(scores, held_out.labels).threshold
        similarities, labels = score_pairs(pairs, found[name], model), pairs.labels
        rows.append(
            {
                "format": os.path.basename(name),
                "largest_difference": float(np.abs(found[name] - found[_TRAINED]).max()),
                "accuracy": metrics.accuracy(similarities, labels, threshold),
                "own_threshold": own,
                "accuracy_at_own": metrics.accuracy(similarities, labels, own),
                f"tar_at_far_{_FAR}": metrics.roc(similarities, labels).tar_at_far(_FAR).tar,
                "megabytes": os.path.getsize(name) / _BYTES_PER_MB if is_file else None,
                "latency_ms": _measure_latency(embed, image),
            }
        )
    return rows


def _embed_images(
    engines: dict[str, Embed], pairs: PairSet, options: ModelOptions
) -> dict[str, np.ndarray]:
    """Embeds each distinct image of some pairs by every engine, float32 [images, d] each."""
    count, broken = len(pairs.images.paths), dict[int, str]()
    found = {name: np.zeros((count, options.embedding_size), np.float32) for name in engines}
    for batch in embedding.load_batches(pairs.images, range(count), options, _BATCH_SIZE, broken):
        pixels = batch.pixels.numpy()
        for name, embed in engines.items():
            found[name][batch.numbers] = embed(pixels)
    for number, reason in broken.items():
        raise UserError(
            f"{pairs.images.paths[number]} of the {pairs.name} pairs cannot be embedded: {reason}; "
            "convert it again"
        )
    return found


def score_pairs(pairs: PairSet, embeddings: np.ndarray, model: Siamese) -> np.ndarray:
    """Similarities of pairs, float32 [n], by the embeddings of their images, float32 [m, d]."""
    ends = np.stack([pairs.first, pairs.second])
    parts = np.array_split(ends, math.ceil(len(pairs) / _PAIRS_AT_ONCE), axis=1)
    found = [model.head.similarity(embeddings[a], embeddings[b]).numpy() for a, b in parts]
    return np.concatenate(found)


def _measure_latency(embed: Embed, image: np.ndarray) -> float:
    """Median of the milliseconds that one image takes."""
    seconds = []
    for _ in range(_TIMED_CALLS):
        start = time.perf_counter()
        embed(image)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) * 1e3
