"""Runs an export in ONNX Runtime, and decodes images as the converter does. Imports no TensorFlow.

Limits and answers are those of the exported graph (`fv.serving.signatures`).
"""

import os
from collections.abc import Iterable
from concurrent import futures

import cv2
import numpy as np
import simplejpeg

from fv import files, jpeg_loader, onnx_encoder, workers
from fv.conversion import storage
from fv.conversion.formats import BadImage
from fv.errors import UserError
from fv.preprocessing import Preprocessing
from fv.serving import contract
from fv.serving.contract import InputError, Inputs, Outputs

ENCODER = os.path.join("formats", "encoder.onnx")  # in the folder of a version
_CARD = "model_card.json"
_FORMATS = (contract.JPEG, contract.PNG, contract.BMP, contract.GIF)
_SCAN, _MOST_SCANS = b"\xff\xda", 100  # as in `fv.serving.decoding`
_LENGTH_TOLERANCE = 0.01  # of an embedding, as in `fv.serving.signatures`
_IMAGES_AT_ONCE = 64  # through the network; bounds memory
_PAIRS = {
    "serving_default": (contract.IMAGE_A, contract.IMAGE_B),
    "compare": (contract.EMBEDDING_A, contract.EMBEDDING_B),
}


class OnnxEngine:
    """The encoder of an export in ONNX Runtime. Threads may share it.

    Attributes: those of `contract.Engine`.
    """

    def __init__(self, path: str, threads: int | None = None):
        """Loads the encoder.

        Args:
          path: folder of one version, with `formats/encoder.onnx`.
          threads: of one call; as many as there are cores by default.

        Raises:
          UserError: ONNX Runtime or the file is missing, or the head has weights of its own.
        """
        self.path = path
        encoder = os.path.join(path, ENCODER)
        if not os.path.exists(encoder):
            raise UserError(
                f"{path} has no {ENCODER}: export with --formats=saved_model,onnx, or give "
                "--engine=tensorflow"
            )
        self.card = files.load_json(os.path.join(path, _CARD))
        try:
            self._read_card()
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}/{_CARD} is no card of this fv, or damaged") from error
        threads = threads or workers.available_cores()
        self._session = onnx_encoder.open_session(encoder, threads, gpu=False)
        self._input = self._session.get_inputs()[0].name
        self._pool = futures.ThreadPoolExecutor(threads, "fv-decode")

    def _read_card(self) -> None:
        model, fitted = self.card["model"], self.card["calibration"]
        if model["head"] == "sigmoid":
            raise UserError(
                f"{self.path} scores by the classifier of --head=sigmoid, which {ENCODER} does "
                "not contain: give --engine=tensorflow"
            )
        self.threshold = float(self.card["operating_point"]["threshold"])
        self.embedding_size = int(model["embedding_size"])
        self._logit = np.float32(fitted["slope"]), np.float32(fitted["offset"])
        self._side, self._crop = int(model["image_size"]), float(model["crop_fraction"])
        self._max_pixels = round(self.card["images"]["max_megapixels"] * 1e6)
        self._stored = Preprocessing.from_json(self.card["preprocessing"], self.path)

    def run(self, signature: str, inputs: Inputs) -> Outputs:
        """Calls a signature; arguments, result and errors are those of `TensorFlowEngine.run`."""
        crops = {aligned: name for name, aligned in contract.ALIGNED.items()}.get(signature)
        signature = crops or signature
        names = _PAIRS.get(signature, (contract.IMAGE,))
        batches = [inputs[name] for name in names]
        if len(batches[0]) != len(batches[-1]):
            raise InputError(f"{names[0]} and {names[-1]} differ in length")
        if signature == "compare":
            for name, batch in zip(names, batches, strict=True):
                _check_unit(np.asarray(batch, np.float32), name)
            return self._answer(*(np.asarray(batch, np.float32) for batch in batches))
        if signature == "embed_pixels":
            return {contract.EMBEDDING: self._embed(map(self._to_input, inputs[contract.IMAGE]))}
        named: list[tuple] = []
        for name, batch in zip(names, batches, strict=True):
            points = inputs[contract.points_of(name)] if crops else [None] * len(batch)
            if len(points) != len(batch):
                raise InputError(f"{name} and {contract.points_of(name)} differ in length")
            places = (f"{name}[{row}]" for row in range(len(batch)))
            named += zip(places, batch, points, strict=True)
        embeddings = self._embed(self._pool.map(lambda one: self._load(*one), named))
        if signature == "embed":
            return {contract.EMBEDDING: embeddings}
        return self._answer(*np.split(embeddings, 2))

    def warm_up(self) -> None:
        """Embeds an image, since a first call is slow.

        Raises:
          UserError: the embedding is no finite number.
        """
        if not np.isfinite(self._embed([np.zeros((self._side, self._side, 3), np.uint8)])).all():
            raise UserError(f"{self.path} gives no finite number: its weights diverged")

    def _embed(self, pixels: Iterable[np.ndarray]) -> np.ndarray:
        batch = np.array(list(pixels), np.uint8).reshape(-1, self._side, self._side, 3)
        found = [np.zeros((0, self.embedding_size), np.float32)]
        for start in range(0, len(batch), _IMAGES_AT_ONCE):
            part = batch[start : start + _IMAGES_AT_ONCE]
            found += self._session.run(None, {self._input: part})
        return np.concatenate(found)

    def _answer(self, first: np.ndarray, second: np.ndarray) -> Outputs:
        similarity = (np.float32(1.0) + np.sum(first * second, axis=-1)) / np.float32(2.0)
        logit = self._logit[0] * similarity + self._logit[1]
        return {
            "similarity": similarity,
            "probability": (0.5 * (1.0 + np.tanh(0.5 * logit))).astype(np.float32),
            "distance": np.linalg.norm(first - second, axis=-1),
            "same": similarity >= np.float32(self.threshold),
        }

    def _load(self, place: str, data: bytes, points: np.ndarray | None) -> np.ndarray:
        """Decodes an image file to the network's input."""
        try:
            if not data:
                raise InputError(f"{place} is empty")
            if not data.startswith(_FORMATS):
                known = "is no JPEG, PNG, BMP or GIF: its first bytes are those of none"
                raise InputError(f"{place} {known}")
            if data.startswith(contract.JPEG) and data.count(_SCAN) > _MOST_SCANS:
                raise InputError(f"{place} has more than {_MOST_SCANS} scans")
            return self._to_input(storage.decode_upright(data, self._max_pixels), points)
        except BadImage as error:
            raise InputError(f"{place} cannot be used: {error}") from error
        except InputError:
            raise
        except UserError as error:  # of the alignment
            raise InputError(f"{place} has points that are no face's: {error}") from error

    def _to_input(self, rgb: np.ndarray, points: np.ndarray | None = None) -> np.ndarray:
        """As `fv.image_ops.to_input` and `align`, in OpenCV."""
        stored = self._stored
        if stored and stored.store_size:
            if points is not None and stored.alignment:
                if not np.isfinite(points).all():
                    raise UserError("they are not finite")
                part = stored.alignment.align(rgb, points, stored.store_size)
            else:
                part = storage.cut_and_resize(rgb, stored.store_size, stored.crop_fraction)
            rgb = compress(part, stored.jpeg_quality)
        top, left, side = jpeg_loader.centre_square(rgb.shape[0], rgb.shape[1], self._crop)
        square = rgb[top : top + side, left : left + side]
        if side == self._side:
            return square
        averaged = side >= jpeg_loader.AVERAGED_FROM * self._side
        # In float32 as in the graph: OpenCV rounds the weights of uint8 pixels.
        resized = cv2.resize(
            square.astype(np.float32),
            (self._side, self._side),
            interpolation=cv2.INTER_AREA if averaged else cv2.INTER_LINEAR,
        )
        return np.rint(resized).astype(np.uint8)


def compress(rgb: np.ndarray, quality: int) -> np.ndarray:
    """Encodes and decodes uint8 [height, width, 3] as JPEG, bit for bit as `image_ops.store`.

    simplejpeg would encode with libjpeg's fast DCT.
    """
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return simplejpeg.decode_jpeg(encoded, "RGB")


def _check_unit(batch: np.ndarray, name: str) -> None:
    lengths = np.linalg.norm(batch, axis=-1)
    bad = np.flatnonzero(~(np.abs(lengths - 1.0) <= _LENGTH_TOLERANCE))
    if len(bad):
        raise InputError(
            f"{name}[{bad[0]}] has length {lengths[bad[0]]:g}, not 1: it is no embedding of this "
            "model"
        )
