"""Worker processes that run an export in ONNX Runtime, for the server.

    python -m fv.serving.engine_processes CONNECTION FOLDER

is the command that `EngineProcesses` starts; CONNECTION is an inherited file descriptor. A worker
imports no TensorFlow and ends when its parent does.
"""

import queue
import subprocess
import sys
import threading
import time
from multiprocessing import connection
from typing import Any

from absl import logging

from fv import workers
from fv.errors import TemporaryError
from fv.serving.contract import InputError, Inputs, Outputs
from fv.serving.onnx_engine import OnnxEngine

_MODULE = "fv.serving.engine_processes"
_RETRY_SECONDS = 1.0  # until a worker that did not start is started again


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
        held.warm_up()
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
    engine.warm_up()
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
