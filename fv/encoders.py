"""Encoders from a workdir, an export or an ONNX file, each as one function of pixels."""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fv import embedding, files, workers
from fv.errors import UserError
from fv.model import checkpoint_files, initial_weights, model_record
from fv.model.model_record import ModelRecord
from fv.model.options import ModelOptions
from fv.preprocessing import Preprocessing

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # of onnxruntime, fastest first
_CHANNELS = 3
_GREY = 127.5  # a float input takes (pixel − 127.5) / 127.5, as InsightFace's models do
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

    digest = embedding.digest_weights(model.encoder, held.options, 0).hex()
    return Encoder(embed, held, folder, digest)


def load_export(path: str) -> Encoder:
    """Loads a version folder that fv.export wrote.

    Raises:
      UserError: it holds no export, or one without `embed_pixels`.
    """
    from fv.serving import contract  # training loads ONNX files without fv.serving
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
    card = files.load_json(card_path) if files.exists(card_path) else {"model": {}}
    held = _describe(card, network.image_size, network.embedding_size, path)
    return Encoder(lambda pixels: network(pixels.numpy()), held, path, files.sha256(path))


class OnnxEncoder:
    """An encoder of square RGB images. Threads may share it.

    Attributes:
      image_size: side of its input in pixels.
      embedding_size: numbers in an embedding.
    """

    def __init__(self, path: str):
        """Loads a file whose input is [batch, side, side, 3] or [batch, 3, side, side].

        An input of type uint8 takes pixels, a float one takes (pixel − 127.5) / 127.5.

        Raises:
          UserError: onnxruntime is not installed, or the file holds no such network.
        """
        try:
            import onnxruntime  # an extra
        except ImportError as error:
            raise UserError(f"{path} needs onnxruntime: pip install 'fv[onnx]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = workers.available_cores()
        there = onnxruntime.get_available_providers()
        providers = [name for name in _PROVIDERS if name in there]
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # onnxruntime's errors have no base class of their own
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} cannot be loaded as an ONNX file: {reason}") from error
        image = self._session.get_inputs()[0]
        self._name, shape, self._takes_uint8 = image.name, image.shape, "uint8" in image.type
        self._channels_first = len(shape) == 4 and shape[1] == _CHANNELS
        sides = shape[2:] if self._channels_first else shape[1:3]
        square = isinstance(sides[0], int) and sides[0] == sides[-1]
        if len(shape) != 4 or _CHANNELS not in (shape[1], shape[3]) or not square:
            raise UserError(f"{path} takes {shape}, not a batch of square RGB images of one size")
        self._batch = shape[0] if isinstance(shape[0], int) else 0
        self.image_size = int(sides[0])
        black = np.zeros((1, self.image_size, self.image_size, _CHANNELS), np.uint8)
        self.embedding_size = self(black).shape[1]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Embeds pixels, uint8 or float [n, side, side, 3], to unit length: float32 [n, d]."""
        if self._takes_uint8:
            pixels = np.rint(pixels).astype(np.uint8)
        else:
            pixels = (pixels.astype(np.float32) - _GREY) / _GREY
        if self._channels_first:
            pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        size = self._batch or len(pixels)
        starts = range(0, len(pixels), size)
        parts = [self._session.run(None, {self._name: pixels[s : s + size]})[0] for s in starts]
        found = np.concatenate(parts).reshape(len(pixels), -1).astype(np.float32)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.maximum(lengths, np.finfo(np.float32).tiny)


def _describe(card: dict, side: int, size: int, source: str) -> ModelRecord:
    """The record of a model from its card; a foreign model gets the whole image."""
    model = card["model"]
    made = Preprocessing.from_json(card.get("preprocessing") or {}, source)
    side, fraction = model.get("image_size", side), model.get("crop_fraction", 1.0)
    options = ModelOptions(image_size=side, crop_fraction=fraction, embedding_size=size)
    return ModelRecord(options, 0, "", preprocessing=made)
