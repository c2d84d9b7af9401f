"""What runs an exported encoder outside TensorFlow: ai-edge-litert and onnxruntime, behind one call."""

import threading
from collections.abc import Callable

import numpy as np

from fv import workers

Embed = Callable[[np.ndarray], np.ndarray]


def open_engine(path: str, threads: int | None = None) -> Embed:
    """Loads an encoder that `formats` wrote.

    Args:
      path: .tflite or .onnx file.
      threads: that compute; as many as there are cores by default.

    Returns:
      A function uint8 [batch, side, side, 3], RGB as `preprocess` makes it → float32 [batch, d]. Threads may share it.
    """
    opener = _open_lite if path.endswith(".tflite") else _open_onnx
    return opener(path, threads or workers.cores())


def _open_lite(path: str, threads: int) -> Embed:
    from ai_edge_litert import interpreter  # an extra

    engine, lock = interpreter.Interpreter(path, num_threads=threads), threading.Lock()
    image, embedding = (
        engine.get_input_details()[0]["index"],
        engine.get_output_details()[0]["index"],
    )
    engine.allocate_tensors()

    def embed(pixels: np.ndarray) -> np.ndarray:
        with lock:  # an interpreter holds the tensors of one call
            if tuple(engine.get_input_details()[0]["shape"]) != pixels.shape:
                engine.resize_tensor_input(image, pixels.shape)
                engine.allocate_tensors()
            engine.set_tensor(image, pixels)
            engine.invoke()
            return engine.get_tensor(embedding)

    return embed


def _open_onnx(path: str, threads: int) -> Embed:
    import onnxruntime  # an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {session.get_inputs()[0].name: pixels})[0]
