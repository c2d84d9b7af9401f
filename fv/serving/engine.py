"""Runs an export: the one place that loads a SavedModel and calls its signatures.

An engine has `path`, `card`, `threshold`, `embedding_size` and `run(signature, inputs)`. The server
and `fv.Verifier` use nothing else of it. `load_engine` chooses between TensorFlow and ONNX Runtime.
"""

import contextlib
import os
import re
import sys

import numpy as np
import tensorflow as tf

from fv import alignment, errors, files, gpus
from fv.errors import UserError
from fv.serving import contract, versions
from fv.serving.contract import Engine, InputError, Inputs, Outputs

_ASSERTION = re.compile(r"assertion failed: \[(?:b')?(.+?)'?\]\s*$", re.MULTILINE)
_REQUIRED = ("serving_default", "embed", "compare")  # signatures by which an export is known
_NOISE_SIDE = 160  # pixels
TENSORFLOW, ONNX = ENGINES = ("tensorflow", "onnx")


def load_engine(path: str, name: str = TENSORFLOW, processes: int = 0) -> Engine:
    """Checks the checksums of an export and loads it.

    If the model was trained on boxes, a note says that images have to be cut to the face's box.

    Args:
      path: folder of one version, or of versions, whose highest is taken.
      name: one of `ENGINES`.
      processes: worker processes of ONNX Runtime, one thread each; 0 for threads of this process.

    Raises:
      UserError: the folder holds no export of fv, its files do not match its checksums, or it
        cannot be run by that engine.
    """
    engine: Engine
    if name not in ENGINES:
        raise UserError(f"'{name}' is no engine: give one of {', '.join(ENGINES)}")
    if name == TENSORFLOW:
        engine = TensorFlowEngine(path)
    else:
        # Only here: it needs the converter's decoders.
        from fv.serving.onnx_engine import EngineProcesses, OnnxEngine

        version = versions.trusted_version(path)
        engine = EngineProcesses(version, processes) if processes else OnnxEngine(version)
    if engine.card and not engine.card.get("preprocessing"):
        raise UserError(f"{engine.path} was exported by an earlier fv: export it again")
    if "boxes" in engine.card.get("preprocessing", {}):
        print(f"fv: note: {engine.path}: {contract.BOXES_NOTE}", file=sys.stderr)
    return engine


def share_cores_by_image() -> None:
    """Runs each op on one thread; images and branches of the network share the cores.

    Nothing changes if TensorFlow runs already. A pair takes 10 ms in place of 19 on two cores.
    """
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)


class TensorFlowEngine:
    """A SavedModel that `fv.export` wrote. Threads may share it.

    Attributes: those of `contract.Engine`.
    """

    def __init__(self, path: str):
        """Checks the checksums and loads the model.

        Args:
          path: folder of one version, or of versions, whose highest is taken.

        Raises:
          UserError: the folder holds no SavedModel of fv, or its files do not match its checksums.
        """
        gpus.warn_of_unseen()
        self.path = versions.trusted_version(path)
        try:
            self._model = tf.saved_model.load(self.path)
            self._signatures = dict(self._model.signatures.items())
            compare = [self._signatures[name] for name in _REQUIRED][-1]
            inputs = compare.structured_input_signature[1]
            self.embedding_size = int(inputs[contract.EMBEDDING_A].shape[1])
            self.threshold = float(self._model.threshold.numpy())
            card_path = os.path.join(self.path, contract.CARD)
            self.card = files.load_json(card_path) if files.exists(card_path) else {}
        except (OSError, KeyError, AttributeError, ValueError, tf.errors.OpError) as error:
            errors.raise_if_temporary(error)
            reason = str(error).split("\n", 1)[0]
            raise UserError(
                f"{path} holds no SavedModel that fv.export wrote, or a damaged one ({reason})"
            ) from error

    def run(self, signature: str, inputs: Inputs) -> Outputs:
        """Calls a signature on a batch.

        Args:
          signature: `serving_default`, `embed`, `embed_pixels`, `compare`, or one of
            `contract.ALIGNED`.
          inputs: its arguments, [batch, …] each; encoded images are a list of bytes.

        Returns:
          Its outputs, [batch, …] each.

        Raises:
          InputError: the graph refuses an input.
        """
        tensors = {
            name: tf.constant(value, None if isinstance(value, np.ndarray) else tf.string)
            for name, value in inputs.items()
        }
        try:
            answer = self._signatures[signature](**tensors)
            return {name: value.numpy() for name, value in answer.items()}
        except tf.errors.InvalidArgumentError as error:
            found = _ASSERTION.search(str(error))
            raise InputError(found[1] if found else str(error).split("\n", 1)[0]) from error

    def warm_up(self) -> None:
        """Calls every signature, since a first call is slow: with JPEGs, with PNGs, with no image.

        Raises:
          UserError: an answer is no finite number.
        """
        pixels, jpegs, pngs = draw_noise(2)
        for encoded in (jpegs, pngs, [b"no image"] * 2):
            for name, function in self._signatures.items():
                try:
                    outputs = self.run(name, example_inputs(function, pixels, encoded))
                except InputError:
                    continue  # of what is no image
                if not all(np.isfinite(values).all() for values in outputs.values()):
                    raise UserError(
                        f"{self.path}: {name} gives an answer that is no finite number: its "
                        "weights diverged, export again"
                    )


def draw_noise(count: int) -> tuple[np.ndarray, list[bytes], list[bytes]]:
    """Some images of noise: pixels uint8 [count, side, side, 3], the same as JPEGs, and as PNGs."""
    shape = (count, _NOISE_SIDE, _NOISE_SIDE, 3)
    pixels = np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)
    jpegs = [tf.io.encode_jpeg(image).numpy() for image in pixels]
    return pixels, jpegs, [tf.io.encode_png(image).numpy() for image in pixels]


def example_inputs(
    function: tf.types.experimental.ConcreteFunction, pixels: np.ndarray, encoded: list[bytes]
) -> Inputs:
    """Arguments for a signature: pixels or image files, and points or embeddings for each."""
    found: dict[str, np.ndarray | list[bytes]] = {}
    for spec in tf.nest.flatten(function.structured_input_signature):
        if spec.dtype == tf.string:
            found[spec.name] = encoded
        elif spec.dtype == tf.uint8:
            found[spec.name] = pixels
        else:
            is_points = spec.name.startswith(contract.POINTS)
            one = alignment.TEMPLATE if is_points else np.eye(1, spec.shape[1])[0]
            found[spec.name] = np.array([one] * len(encoded), np.float32)
    return found
