"""An encoder in an ONNX file, run by ONNX Runtime. Imports no TensorFlow."""

import functools
import os
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from fv import gpus, workers
from fv.errors import UserError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_CPU, _GPU = "CPUExecutionProvider", "CUDAExecutionProvider"
_CHANNELS = 3
_TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
_GREY = 127.5  # a float input takes (pixel − 127.5) / 127.5, as InsightFace's models do


def _open_session(path: str, threads: int, gpu: bool) -> "InferenceSession":
    try:
        import onnxruntime  # an extra
    except ImportError as error:
        raise UserError(f"{path} needs onnxruntime: pip install 'fv[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    found = onnxruntime.get_available_providers() if gpu else []
    providers = [_GPU, _CPU] if _GPU in found else [_CPU]
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no base class of their own
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be loaded as an ONNX file: {reason}") from error
    # Also where onnxruntime has the provider, but cannot load CUDA.
    if gpu and _GPU not in session.get_providers():
        _warn_of_unused_gpu()
    return session


@functools.cache
def _warn_of_unused_gpu() -> None:
    """Warns, once, that ONNX Runtime computes on the CPU though there are GPUs."""
    if found := gpus.find(os.environ):
        logging.warning(
            "ONNX Runtime uses no GPU and computes on the CPU, though %s: pip uninstall "
            "onnxruntime, then pip install onnxruntime-gpu, or set CUDA_VISIBLE_DEVICES=-1",
            found,
        )


class OnnxEncoder:
    """An encoder of square RGB images. Threads may share it.

    Attributes:
      image_size: side of its input in pixels.
      embedding_size: numbers in an embedding.
    """

    def __init__(self, path: str, threads: int | None = None, *, gpu: bool = True):
        """Loads a file whose input is [batch, side, side, 3] or [batch, 3, side, side].

        An input of type uint8 takes pixels, a float one takes (pixel − 127.5) / 127.5.

        Args:
          path: of the file.
          threads: that one call uses; as many as there are cores by default.
          gpu: use a GPU if onnxruntime sees one.

        Raises:
          UserError: onnxruntime is not installed, or the file holds no such network.
        """
        self._session = _open_session(path, threads or workers.available_cores(), gpu)
        inputs = [(each.shape, each.type) for each in self._session.get_inputs()]
        shape, kind = inputs[0] if len(inputs) == 1 else ([], "")
        self._channels_first = len(shape) == 4 and shape[1] == _CHANNELS
        sides = shape[2:] if self._channels_first else shape[1:3]
        square = len(sides) == 2 and isinstance(sides[0], int) and sides[0] == sides[1]
        if len(shape) != 4 or _CHANNELS not in (shape[1], shape[3]) or not square:
            given = " and ".join(str(each) for each, _ in inputs)
            raise UserError(f"{path} takes {given}, not a batch of square RGB images of one size")
        if kind not in _TYPES:
            raise UserError(f"{path} takes {kind}: export it with an input of float or uint8")
        self._name, self._type = self._session.get_inputs()[0].name, _TYPES[kind]
        self._batch = shape[0] if isinstance(shape[0], int) else 0
        self.image_size = int(sides[0])
        black = np.zeros((2, self.image_size, self.image_size, _CHANNELS), np.uint8)
        try:
            self.embedding_size = self(black).shape[1]
        except Exception as error:  # as of _open_session
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path} gives no embedding for each of two images: {reason}"
            ) from error

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Embeds pixels, uint8 or float [n, side, side, 3], to unit length: float32 [n, d]."""
        if self._type == np.uint8:
            # Augmented pixels may lie beyond the range of uint8, whose cast wraps around.
            pixels = pixels if pixels.dtype == np.uint8 else np.clip(np.rint(pixels), 0, 255)
        else:
            pixels = (pixels.astype(np.float32) - _GREY) / _GREY
        if self._channels_first:
            pixels = pixels.transpose(0, 3, 1, 2)
        pixels = np.ascontiguousarray(pixels, self._type)
        count, size = len(pixels), self._batch or len(pixels)
        if count % size:  # the file takes whole batches only
            pixels = np.pad(pixels, ((0, -count % size), *[(0, 0)] * 3))
        starts = range(0, count, size)
        parts = [self._session.run(None, {self._name: pixels[s : s + size]})[0] for s in starts]
        found = np.concatenate(parts)[:count].reshape(count, -1).astype(np.float32)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.maximum(lengths, np.finfo(np.float32).tiny)
