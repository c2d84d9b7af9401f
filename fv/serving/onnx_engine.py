"""Answers the signatures of an export with ONNX Runtime, without TensorFlow.

Images are decoded as the converter decodes them, with the limits of the exported graph.
"""

import importlib.util
import os
from collections.abc import Callable
from concurrent import futures

import cv2
import numpy as np
import simplejpeg

from fv import files, preprocessing, workers
from fv.conversion import formats, images, jpeg
from fv.conversion.formats import BadImage
from fv.errors import UserError
from fv.preprocessing import Preprocessing

ENCODER = os.path.join("formats", "encoder.onnx")  # in the folder of a version
_CARD = "model_card.json"
_SCAN, _MOST_SCANS = b"\xff\xda", 100  # as `fv.serving.decoding`
_LENGTH_TOLERANCE = 0.01  # of an embedding, as `fv.serving.signatures`
_SUBSAMPLING = "420"  # of stored images
_IMAGES_AT_ONCE = 64  # through the network; bounds memory
_STRINGS = {"serving_default": ("image_a", "image_b"), "embed": ("image",)}
_EMBEDDINGS = ("embedding_a", "embedding_b")

Arrays = dict[str, np.ndarray]


class OnnxEngine:
    """The encoder of an export in ONNX Runtime. Threads may share it.

    Attributes:
      threshold: similarity from which on two images show the same person.
      embedding_size: numbers in an embedding.
      max_pixels: the most pixels that an image may have.
    """

    def __init__(self, folder: str, threads: int | None = None):
        """Loads the encoder.

        Args:
          folder: of one version, with `formats/encoder.onnx`.
          threads: of one call; as many as there are cores by default.

        Raises:
          UserError: ONNX Runtime or the file is missing, or the head has weights of its own.
        """
        if importlib.util.find_spec("onnxruntime") is None:
            raise UserError(
                "the onnx engine needs onnxruntime, which is not installed: pip install 'fv[onnx]'"
            )
        import onnxruntime  # an extra

        path = os.path.join(folder, ENCODER)
        if not os.path.exists(path):
            raise UserError(
                f"{folder} has no {ENCODER}: export with --formats=saved_model,onnx, or use the "
                "tensorflow engine"
            )
        card_path = os.path.join(folder, _CARD)
        try:
            card = files.load_json(card_path)
            model, fitted = card["model"], card["calibration"]
            self.threshold = float(card["operating_point"]["threshold"])
            self._logit = np.float32(fitted["slope"]), np.float32(fitted["offset"])
            self.embedding_size = int(model["embedding_size"])
            self._side, self._crop = int(model["image_size"]), float(model["crop_fraction"])
            self.max_pixels = round(card["images"]["max_megapixels"] * 1e6)
            self._stored = Preprocessing.from_json(card["preprocessing"], card_path)
            head = model["head"]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{card_path} is no card of this fv, or damaged: export again"
            ) from error
        if head == "sigmoid":
            raise UserError(
                f"{folder} scores by the classifier of --head=sigmoid, which {ENCODER} does not "
                "contain: use the tensorflow engine"
            )
        threads = threads or workers.available_cores()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common class
            raise UserError(f"{path} cannot be loaded ({error}): export again") from error
        self._input = self._session.get_inputs()[0].name
        self._pool = futures.ThreadPoolExecutor(threads)

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        """Answers a request.

        Args:
          signature: serving_default, embed, embed_pixels or compare.
          inputs: arrays by name, with the shapes of the SavedModel's signature; encoded images are
            an object array of bytes [batch].

        Returns:
          The outputs of the SavedModel's signature by name, NumPy arrays.

        Raises:
          UserError: the signature or an input does not exist, or an image cannot be decoded, which
            is named as in `image_b[3]`.
        """
        if signature == "compare":
            first, second = (self._check_embeddings(inputs, name) for name in _EMBEDDINGS)
            _check_lengths(first, second, _EMBEDDINGS)
            return self._answer(first, second)
        if signature == "embed_pixels":
            return {"embedding": self._embed(self._map(_check_pixels(inputs), self._to_input))}
        if signature not in _STRINGS:
            raise UserError(f"'{signature}' is no signature of this model")
        names = _STRINGS[signature]
        batches = [_check_strings(inputs, name) for name in names]
        _check_lengths(batches[0], batches[-1], names)
        labelled = [
            (f"{name}[{index}]", data)
            for name, batch in zip(names, batches, strict=True)
            for index, data in enumerate(batch)
        ]
        embeddings = self._embed(self._map(labelled, self._load))
        if signature == "embed":
            return {"embedding": embeddings}
        return self._answer(*np.split(embeddings, 2))

    def _map(self, values, convert: Callable) -> np.ndarray:
        pixels = list(self._pool.map(convert, values))
        return np.array(pixels, np.uint8).reshape(
            -1, self._side, self._side, preprocessing.CHANNELS
        )

    def _embed(self, pixels: np.ndarray) -> np.ndarray:
        found = [np.zeros((0, self.embedding_size), np.float32)]
        for start in range(0, len(pixels), _IMAGES_AT_ONCE):
            batch = pixels[start : start + _IMAGES_AT_ONCE]
            found.append(self._session.run(None, {self._input: batch})[0])
        return np.concatenate(found)

    def _answer(self, first: np.ndarray, second: np.ndarray) -> Arrays:
        similarity = (np.float32(1.0) + np.sum(first * second, axis=-1)) / np.float32(2.0)
        logit = self._logit[0] * similarity + self._logit[1]
        return {
            "similarity": similarity,
            "probability": (0.5 * (1.0 + np.tanh(0.5 * logit))).astype(np.float32),
            "distance": np.linalg.norm(first - second, axis=-1),
            "same": similarity >= np.float32(self.threshold),
        }

    def _load(self, labelled: tuple[str, bytes]) -> np.ndarray:
        label, data = labelled
        try:
            return self._to_input(_decode(data, self.max_pixels))
        except (BadImage, ValueError) as error:
            raise UserError(f"{label} {_describe(error)}") from error

    def _to_input(self, rgb: np.ndarray) -> np.ndarray:
        """As `fv.preprocess.to_input`, in OpenCV."""
        stored = self._stored
        if stored and stored.store_size:
            part = images.cut_and_resize(rgb, stored.store_size, stored.crop_fraction)
            encoded = simplejpeg.encode_jpeg(
                np.ascontiguousarray(part), stored.jpeg_quality, "RGB", _SUBSAMPLING, fastdct=False
            )
            rgb = simplejpeg.decode_jpeg(encoded, "RGB")
        top, left, side = preprocessing.centre_window(*rgb.shape[:2], self._crop)
        square = rgb[top : top + side, left : left + side]
        if side == self._side:
            return square
        averaged = side >= preprocessing.AVERAGED_FROM * self._side
        # In float32 as in the graph: OpenCV rounds weights of uint8 pixels.
        resized = cv2.resize(
            square.astype(np.float32),
            (self._side, self._side),
            interpolation=cv2.INTER_AREA if averaged else cv2.INTER_LINEAR,
        )
        return np.rint(resized).astype(np.uint8)

    def _check_embeddings(self, inputs: Arrays, name: str) -> np.ndarray:
        batch = np.asarray(_get(inputs, name), np.float32)
        if batch.ndim != 2 or batch.shape[1] != self.embedding_size:
            shape = f"[batch, {self.embedding_size}]"
            raise UserError(f"{name} is no batch: it has to have the shape {shape}")
        lengths = np.linalg.norm(batch, axis=-1)
        bad = np.flatnonzero(~(np.abs(lengths - 1.0) <= _LENGTH_TOLERANCE))
        if len(bad):
            raise UserError(
                f"{name}[{bad[0]}] has length {lengths[bad[0]]:g}, not 1: it is no embedding of "
                "this model"
            )
        return batch


def _decode(data: bytes, max_pixels: int) -> np.ndarray:
    """Decodes an image file, uint8 [height, width, 3], upright.

    Raises:
      BadImage, ValueError: it is refused.
    """
    if not data:
        raise BadImage("is empty")
    if not data.startswith(jpeg.START):
        return formats.decode(data, max_pixels)
    if data.count(_SCAN) > _MOST_SCANS:
        raise BadImage(f"has more than {_MOST_SCANS} scans")
    head = jpeg.read_head(data)
    formats.check_size(head.width, head.height, max_pixels)
    if head.bits != 8 or head.components == jpeg.CMYK:
        return formats.decode(data, max_pixels)
    if head.repairs:
        data = jpeg.repair(data, head)
    rgb = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    return formats.turn_upright(rgb, head.orientation)


def _describe(error: Exception) -> str:
    text = str(error).split("\n", 1)[0]
    return text if text.startswith(("is ", "has ")) else f"cannot be used: {text}"


def _get(inputs: Arrays, name: str) -> np.ndarray:
    if name not in inputs:
        raise UserError(f"the input {name} is missing")
    return inputs[name]


def _check_strings(inputs: Arrays, name: str) -> np.ndarray:
    batch = np.asarray(_get(inputs, name), object)
    if batch.ndim != 1 or not all(isinstance(data, bytes) for data in batch):
        raise UserError(f"{name} is no batch: it has to have the shape [batch]")
    return batch


def _check_pixels(inputs: Arrays) -> np.ndarray:
    batch = np.asarray(_get(inputs, "image"))
    is_batch = batch.ndim == 4 and batch.shape[3] == preprocessing.CHANNELS
    if not is_batch or batch.dtype != np.uint8 or (len(batch) and 0 in batch.shape):
        shape = "[batch, height, width, 3]"
        raise UserError(f"image is no batch: it has to have the shape {shape}, dtype uint8")
    return batch


def _check_lengths(first: np.ndarray, last: np.ndarray, names: tuple[str, ...]) -> None:
    if len(first) != len(last):
        raise UserError(f"{names[0]} and {names[-1]} differ in length")
