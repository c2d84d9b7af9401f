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

from fv import alignment, errors, files
from fv.errors import UserError
from fv.serving import contract, model_card, versions
from fv.serving.contract import Engine, InputError, Inputs, Outputs

_ASSERTION = re.compile(r"assertion failed: \[(?:b')?(.+?)'?\]\s*$", re.MULTILINE)
_REQUIRED = ("serving_default", "embed", "compare")  # signatures by which an export is known
_WARM_UP_SIDE = 160  # pixels
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
        # Only here: they need the converter's decoders.
        from fv.serving.engine_processes import EngineProcesses
        from fv.serving.onnx_engine import OnnxEngine

        version = versions.trusted_version(path)
        engine = EngineProcesses(version, processes) if processes else OnnxEngine(version)
    if engine.card and not engine.card.get("preprocessing"):
        raise UserError(f"{engine.path} was exported by an earlier fv: export it again")
    if "boxes" in engine.card.get("preprocessing", {}):
        print(f"fv: note: {engine.path}: {model_card.BOXES}", file=sys.stderr)
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
        self.path = versions.trusted_version(path)
        try:
            self._model = tf.saved_model.load(self.path)
            self._signatures = dict(self._model.signatures.items())
            compare = [self._signatures[name] for name in _REQUIRED][-1]
            inputs = compare.structured_input_signature[1]
            self.embedding_size = int(inputs[contract.EMBEDDING_A].shape[1])
            self.threshold = float(self._model.threshold.numpy())
            card_path = os.path.join(self.path, model_card.JSON)
            self.card = files.load_json(card_path) if os.path.exists(card_path) else {}
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
        """Calls every signature once, since a first call is slow: with a JPEG, a PNG and no image.

        Raises:
          UserError: an answer is no finite number.
        """
        noise = np.random.default_rng(0).integers(0, 256, (_WARM_UP_SIDE, _WARM_UP_SIDE, 3))
        pixels = noise.astype(np.uint8)
        jpeg, png = tf.io.encode_jpeg(pixels).numpy(), tf.io.encode_png(pixels).numpy()
        for encoded in (jpeg, png, b"no image"):
            images = [encoded, encoded]
            self._warm_up_images("serving_default", (contract.IMAGE_A, contract.IMAGE_B), images)
            self._warm_up_images("embed", (contract.IMAGE,), images)
        embedding = np.eye(1, self.embedding_size, dtype=np.float32)
        pair = dict.fromkeys((contract.EMBEDDING_A, contract.EMBEDDING_B), embedding)
        self._warm_up("compare", pair)
        if "embed_pixels" in self._signatures:
            self._warm_up("embed_pixels", {contract.IMAGE: pixels[np.newaxis]})

    def _warm_up_images(self, signature: str, names: tuple[str, ...], images: list[bytes]) -> None:
        """Calls a signature of crops, and that of whole images and points if there is one."""
        self._warm_up(signature, dict.fromkeys(names, images))
        aligned = contract.ALIGNED[signature]
        if aligned in self._signatures:
            points = np.tile(np.float32(alignment.TEMPLATE), (len(images), 1, 1))
            places = dict.fromkeys(map(contract.points_of, names), points)
            self._warm_up(aligned, {**dict.fromkeys(names, images), **places})

    def _warm_up(self, signature: str, inputs: Inputs) -> None:
        try:
            outputs = self.run(signature, inputs)
        except InputError:
            return  # of what is no image
        for values in outputs.values():
            if not np.isfinite(values).all():
                raise UserError(
                    f"{self.path}: {signature} gives an answer that is no finite number: its "
                    "weights diverged, export again"
                )
