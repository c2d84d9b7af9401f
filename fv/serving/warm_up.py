"""Warm-up requests for TensorFlow Serving, so that the first caller does not wait for what starts lazily.

They are a TFRecord of `tensorflow.serving.PredictionLog`, whose few fields are written here in protobuf's wire format: an
export needs no tensorflow-serving-api. Source: tensorflow_serving/apis/prediction_log.proto, predict.proto and model.proto.
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
_PREDICT_LOG, _REQUEST, _MODEL_SPEC, _INPUTS = (
    6,
    1,
    1,
    2,
)  # field numbers, from the outermost message to the innermost
_SPEC_NAME, _SPEC_SIGNATURE, _KEY, _VALUE = 1, 3, 1, 2
_LENGTH_DELIMITED = 2


def write(folder: str, embedding_size: int) -> None:
    """Writes the requests into a version's folder: every signature at batch sizes 1 and 8, on pictures of noise."""
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
    spec = _field(_SPEC_NAME, MODEL_NAME.encode()) + _field(_SPEC_SIGNATURE, signature.encode())
    request = _field(_MODEL_SPEC, spec)
    for name, values in sorted(inputs.items()):
        tensor = tf.make_tensor_proto(values).SerializeToString(deterministic=True)
        request += _field(_INPUTS, _field(_KEY, name.encode()) + _field(_VALUE, tensor))
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


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


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
