"""Processes that decode, as many as there are cores: they share no interpreter's lock, with each other or with training."""

import functools
import os
import queue
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import connection

import numpy as np

from fv import workers
from fv.errors import UserError
from fv.pipeline.decoding_process import CONNECTIONS, Answer, Source
from fv.pipeline.shared_memory import BatchMemory, SharedFile

_MODULE = "fv.pipeline.decoding_process"
_ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}  # a process is forked, which threads would not survive
_DIED = "a process that decodes images died, most often for want of memory: use smaller batches, or --decoder=tensorflow"


class DecodingProcesses:
    """They end with this process, however it ends."""

    def __init__(self, count: int):
        """Starts them and does not wait for them."""
        self._memory = SharedFile()
        ours, theirs = zip(*(connection.Pipe() for _ in range(count * CONNECTIONS)), strict=True)
        inherited = (self._memory.descriptor, *(end.fileno() for end in theirs))
        self._server = subprocess.Popen(
            [sys.executable, "-m", _MODULE, *map(str, inherited)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=inherited,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | _ONE_THREAD,
        )
        for end in theirs:
            end.close()
        self._idle: queue.SimpleQueue[connection.Connection] = queue.SimpleQueue()
        for place in range(CONNECTIONS):  # every process gets a task before any gets its second
            for end in ours[place::CONNECTIONS]:
                self._idle.put(end)
        self.calls = len(ours)

    @property
    def pid(self) -> int:
        """Of the process that forked them and waits for their end."""
        return self._server.pid

    def memory(self, shape: tuple[int, ...]) -> BatchMemory:
        """Memory for batches of that shape, uint8 [pairs, 2, image_size, image_size, 3]."""
        return BatchMemory(self._memory, shape)

    def decode(
        self, memory: BatchMemory, crop_fraction: float, sources: Sequence[Source]
    ) -> tuple[np.ndarray, Answer]:
        """Decodes a batch in one of the processes, when one is free for it; `calls` threads may ask at once, more wait.

        Args:
          memory: where the batch goes.
          crop_fraction: side of the centre square that is kept, over the shorter side.
          sources: as many records as a batch has, or their places.

        Returns:
          The images, and what is known of every pair.

        Raises:
          UserError: the process died.
        """
        idle = self._idle.get()
        try:
            offset, images = memory.lend()
            idle.send((offset, images.shape[2], crop_fraction, sources))
            return images, idle.recv()
        except (EOFError, OSError) as error:
            raise UserError(_DIED) from error
        finally:
            self._idle.put(idle)


@functools.lru_cache(maxsize=1)
def shared() -> DecodingProcesses:
    """Those that all pipelines of this process share."""
    return DecodingProcesses(workers.cores())
