"""Warm-up requests for TensorFlow Serving: the first caller does not wait for lazy initialisation.

They are a TFRecord of `tensorflow.serving.PredictionLog`. The message class is built here, so that
an export needs no tensorflow-serving-api. Source: prediction_log.proto, predict.proto and
model.proto in tensorflow_serving/apis.
"""

import io
import os

import numpy as np
import tensorflow as tf
from PIL import Image

from fv import preprocess, record
from fv.serving import signatures

PATH = os.path.join("assets.extra", "tf_serving_warmup_requests")
MODEL_NAME = "fv"
BATCH_SIZES = (1, 8)
_SIDE = 160  # pixels, of the images
# Only the fields that a request sets. A TensorProto stands as bytes, which have its wire format.
_PREDICTION_LOG = """
name: "prediction_log.proto" package: "tensorflow.serving" syntax: "proto3"
message_type {
  name: "ModelSpec"
  field { name: "name" number: 1 type: TYPE_STRING }
  field { name: "signature_name" number: 3 type: TYPE_STRING }
}
message_type {
  name: "PredictRequest"
  nested_type {
    name: "InputsEntry"
    options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type: TYPE_BYTES }
  }
  field { name: "model_spec" number: 1 type_name: ".tensorflow.serving.ModelSpec" }
  field {
    name: "inputs" number: 2 label: LABEL_REPEATED
    type_name: ".tensorflow.serving.PredictRequest.InputsEntry"
  }
}
message_type {
  name: "PredictLog"
  field { name: "request" number: 1 type_name: ".tensorflow.serving.PredictRequest" }
}
message_type {
  name: "PredictionLog"
  field { name: "predict_log" number: 6 type_name: ".tensorflow.serving.PredictLog" }
}
"""
_PredictionLog = record.message_class(_PREDICTION_LOG, "tensorflow.serving.PredictionLog")


def write(folder: str, embedding_size: int) -> None:
    """Writes requests of noise for every signature, at batch sizes 1 and 8, to a version folder."""
    path = os.path.join(folder, PATH)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        for size in BATCH_SIZES:
            for name, inputs in _requests(size, embedding_size).items():
                file.write(record.frame(prediction_log(name, inputs)))


def prediction_log(signature: str, inputs: dict[str, np.ndarray | list[bytes]]) -> bytes:
    """A serialised PredictionLog of one request.

    Args:
      signature: name of the signature that is called.
      inputs: its arguments by name.
    """
    log = _PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, signature
    for name, values in inputs.items():
        tensor = tf.make_tensor_proto(values)
        request.inputs[name] = tensor.SerializeToString(deterministic=True)
    return log.SerializeToString(deterministic=True)


def _requests(size: int, embedding_size: int) -> dict[str, dict[str, np.ndarray | list[bytes]]]:
    rng = np.random.default_rng(size)
    pixels = rng.integers(0, 256, (size, _SIDE, _SIDE, preprocess.CHANNELS), dtype=np.uint8)
    jpegs, pngs = [[_encode(image, form) for image in pixels] for form in ("JPEG", "PNG")]
    embeddings = rng.normal(size=(size, embedding_size))
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    return {
        "serving_default": {signatures.IMAGE_A: jpegs, signatures.IMAGE_B: jpegs},
        "embed": {signatures.IMAGE: pngs},
        "embed_pixels": {signatures.IMAGE: pixels},
        "compare": {signatures.EMBEDDING_A: embeddings, signatures.EMBEDDING_B: embeddings},
    }


def _encode(pixels: np.ndarray, form: str) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, form)
    return encoded.getvalue()
