"""Processes that read and decode batches of pairs into memory shared with training.

There is one process per core. They share no interpreter lock with each other or with training.

    python -m fv.pipeline.decoding_processes MEMORY CONNECTION…

is the command that `DecodingProcesses` starts; its arguments are inherited file descriptors. The
process imports no TensorFlow and knows nothing of identities or of what is wrong with a record:
what it cannot decode it leaves to its parent, which looks at it again. After the imports it forks
the other processes, which so start at once and share most of its memory.
"""

import array
import collections
import functools
import gc
import mmap
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from multiprocessing import connection
from typing import cast

import numpy as np

from fv import jpeg_loader, record, workers
from fv.errors import UserError
from fv.pipeline.shards import FrameLocation, FrameReader
from fv.record import Pair

# A record, where its frame lies in a shard, or None for padding.
RecordSource = bytes | FrameLocation | None
# Labels (int8) of all pairs, and the names of both people of each.
Decoded = tuple[bytes, list[bytes]]

# Label of a place that these processes did not fill: padding, a damaged record, or an image that
# only TensorFlow decodes.
UNDECODED = -1
_NO_NAMES = (b"",) * 4  # of a pair that could not be parsed

# Of each process: while it decodes one batch the next one waits, so that no core is idle.
_CONNECTIONS = 2
_MAPPED_BATCHES = 256  # more than there are at one time
_MADV_REMOVE = getattr(mmap, "MADV_REMOVE", None)  # Linux's

_MODULE = "fv.pipeline.decoding_processes"
# The first process forks, and threads do not survive a fork.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_DIED = (
    "a process that decodes images died, most often for want of memory: use smaller batches, "
    "or --decoder=tensorflow"
)


class DecodingProcesses:
    """Starts the processes, and gives each batch to one that is free.

    They end with this process, however it ends.
    """

    def __init__(self, count: int):
        """Starts `count` processes and does not wait for them."""
        self._memory = SharedFile()
        ours, theirs = zip(*(connection.Pipe() for _ in range(count * _CONNECTIONS)), strict=True)
        inherited = (self._memory.descriptor, *(end.fileno() for end in theirs))
        with workers.block_group_signals():
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
        for place in range(_CONNECTIONS):  # every process gets a batch before any gets its second
            for end in ours[place::_CONNECTIONS]:
                self._idle.put(end)
        self.calls = len(ours)

    @property
    def pid(self) -> int:
        """Of the process that forks the others and waits for their end."""
        return self._server.pid

    def batch_memory(self, shape: tuple[int, ...]) -> "BatchMemory":
        """Memory for batches of that shape, uint8 [pairs, 2, image_size, image_size, 3]."""
        return BatchMemory(self._memory, shape)

    def decode(
        self, memory: "BatchMemory", crop_fraction: float, sources: Sequence[RecordSource]
    ) -> tuple[np.ndarray, Decoded]:
        """Decodes a batch in one of the processes; `calls` threads may do so at once, others wait.

        Args:
          memory: where the images go.
          crop_fraction: side of the centre square that is kept, over the shorter side.
          sources: of as many records as a batch has.

        Returns:
          The images, and labels and names of every pair.

        Raises:
          UserError: the process died.
        """
        process = self._idle.get()
        try:
            offset, images = memory.acquire()
            process.send((offset, images.shape[2], crop_fraction, sources))
            return images, process.recv()
        except (EOFError, OSError) as error:
            raise UserError(_DIED) from error
        finally:
            self._idle.put(process)


@functools.lru_cache(maxsize=1)
def shared_processes() -> DecodingProcesses:
    """The processes that all pipelines of this process share."""
    return DecodingProcesses(workers.available_cores())


class SharedFile:
    """A file without a name, in memory where the system has such files, that is cut into slots."""

    def __init__(self):
        self.descriptor = _open_unnamed()
        self._end = 0
        self._lock = threading.Lock()

    def add_slot(self, size: int) -> "_Slot":
        """A new slot of that many bytes."""
        with self._lock:
            offset, self._end = self._end, self._end + size + -size % mmap.ALLOCATIONGRANULARITY
            os.ftruncate(self.descriptor, self._end)
        return _Slot(self.descriptor, offset, size)


class BatchMemory:
    """Slots for batches of one shape, reused with warm pages once no array or tensor uses them."""

    def __init__(self, file: SharedFile, shape: tuple[int, ...]):
        """Args: the file of the slots, and the shape of the batches, uint8."""
        self._file, self._shape = file, shape
        self._free: collections.deque[_Slot] = collections.deque()

    def acquire(self) -> tuple[int, np.ndarray]:
        """(offset in the file, array over the slot there): page-aligned, of any content."""
        try:
            slot = self._free.pop()
        except IndexError:
            slot = self._file.add_slot(int(np.prod(self._shape)))
        return slot.offset, np.asarray(_SlotUse(slot, self._shape, self._free))


class _Slot:
    """Some bytes of a shared file from `offset` on; their memory is freed with this object."""

    def __init__(self, descriptor: int, offset: int, size: int):
        self.offset = offset
        self._map = mmap.mmap(descriptor, size, offset=offset)
        self.address = np.frombuffer(self._map, np.uint8).ctypes.data

    # `advice` is bound now: when the interpreter ends, the module's names may be gone.
    def __del__(self, advice=_MADV_REMOVE):
        if advice is not None and hasattr(self, "_map"):
            self._map.madvise(advice)


class _SlotUse:
    """Referenced by all arrays over a slot, which is free again when the last one is gone."""

    def __init__(self, slot: _Slot, shape: tuple[int, ...], free: collections.deque[_Slot]):
        self.__array_interface__ = {
            "data": (slot.address, False),
            "shape": shape,
            "typestr": "|u1",
            "version": 3,
        }
        self._slot, self._free = slot, free

    def __del__(self):
        self._free.append(self._slot)


def _open_unnamed() -> int:
    if hasattr(os, "memfd_create"):  # not in /dev/shm, which containers often limit to 64 MiB
        return os.memfd_create("fv")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def main() -> None:
    """Forks a process for every two connections; each answers until its parent is gone."""
    workers.ignore_group_signals()  # the parent handles them, and its end is the end of all
    memory, *descriptors = map(int, sys.argv[1:])
    gc.freeze()
    gc.disable()  # nothing here refers to itself
    while descriptors:
        own, descriptors = descriptors[:_CONNECTIONS], descriptors[_CONNECTIONS:]
        if os.fork() == 0:
            for other in descriptors:
                os.close(other)
            _serve(memory, [connection.Connection(descriptor) for descriptor in own])
            return
        for descriptor in own:
            os.close(descriptor)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def _serve(memory: int, connections: list[connection.Connection]) -> None:
    decoder = _Decoder(memory)
    try:
        while True:
            for asking in cast(list[connection.Connection], connection.wait(connections)):
                asking.send(decoder.decode(*asking.recv()))
    except (EOFError, OSError):
        return  # the parent is gone


class _Decoder:
    """Decodes batches into the shared memory of that file descriptor."""

    def __init__(self, memory: int):
        self._frames, self._loader = FrameReader(), jpeg_loader.Loader()
        self._map = functools.lru_cache(_MAPPED_BATCHES)(
            lambda offset, size: mmap.mmap(memory, size, offset=offset)
        )

    def decode(
        self, offset: int, image_size: int, crop_fraction: float, sources: Sequence[RecordSource]
    ) -> Decoded:
        """Decodes into the memory at `offset`, uint8 [pairs, 2, image_size, image_size, 3]."""
        shape = (len(sources), 2, image_size, image_size, jpeg_loader.CHANNELS)
        images = np.frombuffer(self._map(offset, int(np.prod(shape))), np.uint8).reshape(shape)
        # All are parsed before the first is decoded. Taking turns is 5 % slower: each work pushes
        # the other out of the processor's caches.
        pairs = [self._parse(source) for source in sources]
        labels = array.array(
            "b",
            (self._load(pair, crop_fraction, *to) for pair, to in zip(pairs, images, strict=True)),
        )
        names = [name for pair in pairs for name in (pair.names if pair else _NO_NAMES)]
        return labels.tobytes(), names

    def _parse(self, source: RecordSource) -> Pair | None:
        if source is None:
            return None
        try:
            data = source if isinstance(source, bytes) else self._frames.read(*source)
            return record.parse_pair(data)
        except (ValueError, OSError):  # a DamagedRecordError is a ValueError
            return None

    def _load(
        self, pair: Pair | None, crop_fraction: float, image_a: np.ndarray, image_b: np.ndarray
    ) -> int:
        """Decodes the images of a pair and returns its label, or `UNDECODED`."""
        if pair is None:
            return UNDECODED
        try:
            self._loader.load(pair.images[0], crop_fraction, image_a)
            self._loader.load(pair.images[1], crop_fraction, image_b)
        except ValueError:
            return UNDECODED
        return pair.label


if __name__ == "__main__":
    main()
