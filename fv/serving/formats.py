"""The encoder for other engines, pixels in and embeddings out: TFLite in three precisions, and ONNX.

The head stays in the SavedModel's `compare`; docs/serve.md gives its formula where it has no weights.
"""

import importlib.util
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tf_keras

from fv import files, preprocess, quiet_tensorflow
from fv.errors import UserError

SAVED_MODEL, TFLITE, ONNX = "saved_model", "tflite", "onnx"
FOLDER = "formats"  # in a version's folder
FILES = {
    TFLITE: ("encoder_float32.tflite", "encoder_float16.tflite", "encoder_int8.tflite"),
    ONNX: ("encoder.onnx",),
}
_NEEDED = {SAVED_MODEL: (), TFLITE: ("ai_edge_litert",), ONNX: ("tf2onnx", "onnxruntime")}
_OPSET = 17  # of ONNX; the newest that tf2onnx 1.17 and onnxruntime since 1.13 share


def parse(text: str) -> tuple[str, ...]:
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


def write(
    names: tuple[str, ...], folder: str, encoder: tf_keras.Model, examples: np.ndarray
) -> list[str]:
    """Writes an encoder in those formats.

    Args:
      names: of formats, from `parse`.
      folder: a version's; the files go into its folder 'formats'.
      encoder: as `fv.model.encoder.build_encoder` makes it.
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
