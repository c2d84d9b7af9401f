"""Runs an export in ONNX Runtime, and decodes images as the converter does. Imports no TensorFlow.

Limits and answers are those of the exported graph (`fv.serving.signatures`). The server runs it in
worker processes:

    python -m fv.serving.onnx_engine CONNECTION FOLDER

is the command that `EngineProcesses` starts; CONNECTION is an inherited file descriptor. A worker
ends when its parent does.
"""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent import futures
from multiprocessing import connection
from typing import Any

import cv2
import numpy as np
import simplejpeg
from absl import logging

from fv import files, jpeg_loader, workers
from fv.conversion import storage
from fv.conversion.image_files import BadImage
from fv.errors import TemporaryError, UserError
from fv.onnx_encoder import OnnxEncoder
from fv.serving import contract
from fv.serving.contract import InputError, Inputs, Outputs

_ENCODER = os.path.join("formats", "encoder.onnx")  # in the folder of a version
_IMAGES_AT_ONCE = 64  # through the network; bounds memory
_MODULE = "fv.serving.onnx_engine"
_RETRY_SECONDS = 1.0  # until a worker that did not start is started again
_PAIRS = {
    "serving_default": (contract.IMAGE_A, contract.IMAGE_B),
    "compare": (contract.EMBEDDING_A, contract.EMBEDDING_B),
}


class OnnxEngine:
    """The encoder of an export in ONNX Runtime. Threads may share it.

    Attributes: those of `contract.Engine`.
    """

    def __init__(self, path: str, threads: int | None = None):
        """Loads the encoder and calls it once, since a first call is slow.

        Args:
          path: folder of one version, with `formats/encoder.onnx`.
          threads: of one call; as many as there are cores by default.

        Raises:
          UserError: ONNX Runtime or the file is missing, the head has weights of its own, or an
            embedding is no finite number.
        """
        self.path = path
        encoder = os.path.join(path, _ENCODER)
        if not files.exists(encoder):
            raise UserError(
                f"{path} has no {_ENCODER}: export with --formats=saved_model,onnx, or give "
                "--engine=tensorflow"
            )
        self.card = files.load_json(os.path.join(path, contract.CARD))
        try:
            self._read_card()
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}/{contract.CARD} is no card of this fv, or damaged") from error
        threads = threads or workers.available_cores()
        self._encoder = OnnxEncoder(encoder, threads, gpu=False)
        self._pool = futures.ThreadPoolExecutor(threads, "fv-decode")
        if not np.isfinite(self._embed([np.zeros((self._side, self._side, 3), np.uint8)])).all():
            raise UserError(f"{path} gives no finite number: its weights diverged, export again")

    def _read_card(self) -> None:
        model, fitted = self.card["model"], self.card["calibration"]
        if model["head"] == "sigmoid":
            raise UserError(
                f"{self.path} scores by the classifier of --head=sigmoid, which {_ENCODER} does "
                "not contain: give --engine=tensorflow"
            )
        self.threshold = float(self.card["operating_point"]["threshold"])
        self.embedding_size = int(model["embedding_size"])
        self._logit = np.float32(fitted["slope"]), np.float32(fitted["offset"])
        self._side, self._crop = int(model["image_size"]), float(model["crop_fraction"])
        self._max_pixels = contract.max_pixels(self.card)
        self._stored = contract.preprocessing(self.card, self.path)

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

    def _embed(self, pixels: Iterable[np.ndarray]) -> np.ndarray:
        batch = np.array(list(pixels), np.uint8).reshape(-1, self._side, self._side, 3)
        found = [np.zeros((0, self.embedding_size), np.float32)]
        for start in range(0, len(batch), _IMAGES_AT_ONCE):
            found.append(self._encoder(batch[start : start + _IMAGES_AT_ONCE]))
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
            if not data.startswith(contract.FORMATS):
                raise InputError(f"{place} {contract.UNKNOWN}")
            if data.startswith(contract.JPEG) and data.count(contract.SCAN) > contract.MOST_SCANS:
                raise InputError(f"{place} {contract.TOO_MANY_SCANS}")
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
        if stored.store_size:
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
    bad = np.flatnonzero(~(np.abs(lengths - 1.0) <= contract.LENGTH_TOLERANCE))
    if len(bad):
        raise InputError(
            f"{name}[{bad[0]}] has length {lengths[bad[0]]:g}, not 1: it is no embedding of this "
            "model"
        )


class EngineProcesses:
    """An engine whose calls run in worker processes, one call in each. Threads may share it.

    Attributes: those of `contract.Engine`, and:
      calls_at_once: how many calls run at the same time.
    """

    def __init__(self, path: str, count: int):
        """Starts `count` workers for the folder of a version.

        Raises:
          UserError: as `OnnxEngine`.
        """
        held = OnnxEngine(path, 1)  # checks the export, and reads its card
        self.path, self.card, self.threshold = path, held.card, held.threshold
        self.embedding_size, self.calls_at_once = held.embedding_size, count
        self._idle: queue.SimpleQueue[connection.Connection] = queue.SimpleQueue()
        for worker in [_start(path) for _ in range(count)]:
            self._add(worker)

    def run(self, signature: str, inputs: Inputs) -> Outputs:
        """Calls a signature, as `TensorFlowEngine.run`, when a worker is free.

        Raises:
          InputError: an input is refused.
          TemporaryError: the worker died. Another one takes its place.
        """
        worker = self._idle.get()
        try:
            worker.send((signature, dict(inputs)))
            answer = worker.recv()
        except (EOFError, OSError) as error:
            threading.Thread(target=self._replace, daemon=True).start()
            raise TemporaryError("a worker process died: try again") from error
        self._idle.put(worker)
        if isinstance(answer, Exception):
            try:
                raise answer
            finally:
                del answer  # its traceback holds this frame, and so this engine and its workers
        return answer

    def _replace(self) -> None:
        logging.error("a worker process of %s died: starting another one", self.path)
        while True:
            try:
                self._add(_start(self.path))
                return
            except (OSError, EOFError) as error:
                logging.error("a worker process did not start: %s", error)
                time.sleep(_RETRY_SECONDS)

    def _add(self, worker: connection.Connection) -> None:
        worker.recv()  # when it can answer
        self._idle.put(worker)


def _start(path: str) -> connection.Connection:
    ours, theirs = connection.Pipe()
    # The worker's death closes the other end only if nobody else holds it.
    with theirs, workers.block_group_signals():
        subprocess.Popen(
            [sys.executable, "-m", _MODULE, str(theirs.fileno()), path],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    return ours


def _work(number: int, path: str) -> None:
    """Answers calls until the connection ends."""
    workers.ignore_group_signals()  # the parent drains first
    parent = connection.Connection(number)
    engine = OnnxEngine(path, 1)
    parent.send("ready")
    while True:
        try:
            signature, inputs = parent.recv()
        except EOFError:
            return
        answer: Any
        try:
            answer = engine.run(signature, inputs)
        except InputError as error:
            answer = error
        except Exception as error:
            # Its message may quote what the client sent, and it may not be picklable.
            answer = RuntimeError(f"{type(error).__name__} in a worker process")
        parent.send(answer)


if __name__ == "__main__":
    _work(int(sys.argv[1]), sys.argv[2])
