"""Encoders from a workdir, an export or an ONNX file, each as one function of pixels."""

import hashlib
import os
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fv import embedding, files
from fv.errors import UserError
from fv.model import checkpoint_files, initial_weights, model_record
from fv.model.model_record import ModelRecord
from fv.model.options import ModelOptions
from fv.onnx_encoder import OnnxEncoder
from fv.preprocessing import Preprocessing

_CHANNELS = 3
# The protobuf entry of an ONNX tensor that lies in another file: key, and length of the file's name
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?[\x00-\x7f])", re.DOTALL)
_SAVED = ("saved_model.pb", "variables/variables.data-00000-of-00001")  # decide an embedding


class Encoder(NamedTuple):
    """A trained encoder.

    Attributes:
      embed: uint8 pixels [n, side, side, 3] → float32 [n, d], of unit length.
      record: of its model; without identities where these are not known.
      source: where it is, for messages.
      digest: of all that decides an embedding.
    """

    embed: Callable[[tf.Tensor], np.ndarray]
    record: ModelRecord
    source: str
    digest: str


def load_workdir(folder: str, checkpoint: str) -> Encoder:
    """Loads a checkpoint of a workdir: `workdir.LAST` or `workdir.BEST`.

    Raises:
      UserError: the folder holds no trained model.
    """
    held = model_record.load(folder)
    model, _ = checkpoint_files.load_model(folder, held, checkpoint)

    def embed(pixels: tf.Tensor) -> np.ndarray:
        return embedding.apply_encoder(model.encoder, pixels).numpy()

    digest = embedding.digest_weights(model.encoder, held.options).hex()
    return Encoder(embed, held, folder, digest)


def load_export(path: str) -> Encoder:
    """Loads a version folder that fv.export wrote.

    Raises:
      UserError: it holds no export, or one without `embed_pixels`.
    """
    from fv.serving import contract  # a later package, which other models do without
    from fv.serving.engine import TensorFlowEngine

    engine = TensorFlowEngine(path)

    def embed(pixels: tf.Tensor) -> np.ndarray:
        return engine.run("embed_pixels", {contract.IMAGE: pixels.numpy()})[contract.EMBEDDING]

    held = _describe(engine.card, 0, engine.embedding_size, engine.path)
    side = held.options.image_size
    try:
        embed(tf.zeros((1, side, side, _CHANNELS), tf.uint8))
    except KeyError as error:
        raise UserError(f"{engine.path} has no embed_pixels: export it again") from error
    digest = "".join(files.sha256(os.path.join(engine.path, name)) for name in _SAVED)
    return Encoder(embed, held, engine.path, digest)


def load_onnx(path: str) -> Encoder:
    """Loads an ONNX file. If fv.export wrote it, the model card says how images are prepared.

    Raises:
      UserError: as `OnnxEncoder`.
    """
    network = OnnxEncoder(path)
    version = os.path.dirname(os.path.dirname(os.path.abspath(path)))
    card_path = os.path.join(version, initial_weights.CARD)
    card = files.load_json(card_path) if files.exists(card_path) else {}
    if "fv" not in card or not isinstance(card.get("model"), dict):  # another program's
        card = {"model": {}}
    held = _describe(card, network.image_size, network.embedding_size, path)
    return Encoder(lambda pixels: network(pixels.numpy()), held, path, _digest_onnx(path))


def _digest_onnx(path: str) -> str:
    """A digest of an ONNX file and of the files beside it that hold its larger weights."""
    data, named = files.read_bytes(path), set[str]()
    for match in _LOCATION.finditer(data):
        low, *high = match[1]
        length = low & 127 | sum(high) << 7
        name = data[match.end() : match.end() + length].decode(errors="surrogateescape")
        named.add(os.path.join(os.path.dirname(path), name))
    external = sorted(filter(files.is_file, named))
    return hashlib.sha256(data).hexdigest() + "".join(map(files.sha256, external))


def _describe(card: dict, side: int, size: int, source: str) -> ModelRecord:
    """The record of a model from its card; a foreign model gets the whole image."""
    model = card["model"]
    made = Preprocessing.from_json(card.get("preprocessing") or {}, source)
    side, fraction = model.get("image_size", side), model.get("crop_fraction", 1.0)
    options = ModelOptions(image_size=side, crop_fraction=fraction, embedding_size=size)
    return ModelRecord(options, 0, "", preprocessing=made)
