"""The encoder for other engines, pixels in and embeddings out: TFLite in three precisions, and ONNX.

The head stays in the SavedModel's `compare`; docs/serve.md gives its formula where it has no weights.
"""

import importlib.util
import os
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
import tf_keras

from fv import files, metrics, preprocess, quiet_tensorflow, workers
from fv.errors import UserError
from fv.model.siamese import Siamese
from fv.pipeline import input_pipeline
from fv.pipeline.input_pipeline import PairSource

# What runs an exported encoder outside TensorFlow: ai-edge-litert and onnxruntime, behind one
# call.

Embed = Callable[[np.ndarray], np.ndarray]


def open_engine(path: str, threads: int | None = None) -> Embed:
    """Loads an encoder that `formats` wrote.

    Args:
      path: .tflite or .onnx file.
      threads: that compute; as many as there are cores by default.

    Returns:
      A function uint8 [batch, side, side, 3], RGB as `preprocess` makes it → float32 [batch, d]. Threads may share it.
    """
    opener = _open_lite if path.endswith(".tflite") else _open_onnx
    return opener(path, threads or workers.cores())


def _open_lite(path: str, threads: int) -> Embed:
    from ai_edge_litert import interpreter  # an extra

    engine, lock = interpreter.Interpreter(path, num_threads=threads), threading.Lock()
    image, embedding = (
        engine.get_input_details()[0]["index"],
        engine.get_output_details()[0]["index"],
    )
    engine.allocate_tensors()

    def embed(pixels: np.ndarray) -> np.ndarray:
        with lock:  # an interpreter holds the tensors of one call
            if tuple(engine.get_input_details()[0]["shape"]) != pixels.shape:
                engine.resize_tensor_input(image, pixels.shape)
                engine.allocate_tensors()
            engine.set_tensor(image, pixels)
            engine.invoke()
            return engine.get_tensor(embedding)

    return embed


def _open_onnx(path: str, threads: int) -> Embed:
    import onnxruntime  # an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {session.get_inputs()[0].name: pixels})[0]


# How far an encoder in another format is from the one that was trained: embeddings, accuracy,
# TAR, size, latency.

Choose = Callable[[np.ndarray, np.ndarray], float]
FAR = 0.1  # where TAR is compared
_BATCH_SIZE = 32  # pairs
_TIMED_CALLS = 20
_BYTES_PER_MB = 1_000_000


def compare_formats(
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
        embed = open_engine(path)
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


SAVED_MODEL, TFLITE, ONNX = "saved_model", "tflite", "onnx"
FOLDER = "formats"  # in a version's folder
FILES = {
    TFLITE: ("encoder_float32.tflite", "encoder_float16.tflite", "encoder_int8.tflite"),
    ONNX: ("encoder.onnx",),
}
_NEEDED = {SAVED_MODEL: (), TFLITE: ("ai_edge_litert",), ONNX: ("tf2onnx", "onnxruntime")}
_OPSET = 17  # of ONNX; the newest that tf2onnx 1.17 and onnxruntime since 1.13 share


def parse_formats(text: str) -> tuple[str, ...]:
    """The formats in a comma-separated list, the SavedModel left out, which is always written.

    Raises:
      UserError: an unknown one, or a package that it needs is not installed.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in _NEEDED:
            raise UserError(f"--formats={text}: '{name}' is none of {', '.join(_NEEDED)}")
        lacking = [
            package for package in _NEEDED[name] if importlib.util.find_spec(package) is None
        ]
        if lacking:
            raise UserError(
                f"--formats={text}: {name} needs {lacking[0]}, which is not installed: pip install 'fv[{name}]'"
            )
    return tuple(name for name in names if name != SAVED_MODEL)


def write_formats(
    names: tuple[str, ...], folder: str, encoder: tf_keras.Model, examples: np.ndarray
) -> list[str]:
    """Writes an encoder in those formats.

    Args:
      names: of formats, from `parse`.
      folder: a version's; the files go into its folder 'formats'.
      encoder: as `fv.model.siamese.build_encoder` makes it.
      examples: uint8 [n, side, side, 3], images whose activations set the ranges of int8.

    Returns:
      Paths of the files.
    """
    paths = []
    for name in names:
        os.makedirs(os.path.join(folder, FOLDER), exist_ok=True)
        with quiet_tensorflow.stderr_held_back():  # converters talk much
            written = _lite_files(encoder, examples) if name == TFLITE else _onnx_files(encoder)
            for file_name, data in zip(FILES[name], written, strict=True):
                paths.append(os.path.join(folder, FOLDER, file_name))
                with files.atomic_open(paths[-1], "wb") as file:
                    file.write(data)
    return paths


def _function(
    encoder: tf_keras.Model, dtype: tf.DType
) -> tf.types.experimental.PolymorphicFunction:
    side = encoder.input_shape[1]
    image = tf.TensorSpec([None, side, side, preprocess.CHANNELS], dtype, "image")

    @tf.function(input_signature=[image], autograph=False)
    def embed(image):
        return {"embedding": encoder(tf.cast(image, tf.float32), training=False)}

    return embed


def _lite_files(encoder: tf_keras.Model, examples: np.ndarray) -> Iterator[bytes]:
    """float32, float16 weights, and int8 throughout."""
    yield _lite_converter(encoder, tf.uint8).convert()
    half = _lite_converter(encoder, tf.uint8)
    half.optimizations, half.target_spec.supported_types = [tf.lite.Optimize.DEFAULT], [tf.float16]
    yield half.convert()
    whole = _lite_converter(
        encoder, tf.float32
    )  # whose input the converter makes uint8: a cast in the graph has no int8
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


def _onnx_files(encoder: tf_keras.Model) -> Iterator[bytes]:
    import tf2onnx  # an extra

    function = _function(encoder, tf.uint8)
    model, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=_OPSET
    )
    yield model.SerializeToString(deterministic=True)
