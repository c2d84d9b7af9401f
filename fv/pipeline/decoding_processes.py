"""Processes that decode, as many as there are cores: they share no interpreter's lock, with each other or with training."""

import array
import collections
import functools
import gc
import mmap
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from multiprocessing import connection

import numpy as np

from fv import preprocessing, record, workers
from fv.errors import UserError
from fv.pipeline.shard_reader import FrameReader
from fv.record import Pair

# Memory that other processes fill and TensorFlow takes over without a copy.

_GIVE_BACK = getattr(mmap, "MADV_REMOVE", None)  # Linux's


class SharedFile:
    """A file without a name, in memory where the system has such files, out of which slots are cut."""

    def __init__(self):
        self.descriptor = _open_unnamed()
        self._end = 0
        self._lock = threading.Lock()

    def slot(self, size: int) -> "Slot":
        """A new slot of that many bytes."""
        with self._lock:
            offset, self._end = self._end, self._end + size + -size % mmap.ALLOCATIONGRANULARITY
            os.ftruncate(self.descriptor, self._end)
        return Slot(self.descriptor, offset, size)


def _open_unnamed() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(
            "fv"
        )  # not in /dev/shm, whose size a container bounds, often at 64 MiB
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Slot:
    """Some bytes of a shared file, from `offset` on; the memory behind them is given back with the object."""

    def __init__(self, descriptor: int, offset: int, size: int):
        self.offset = offset
        self._map = mmap.mmap(descriptor, size, offset=offset)
        self.address = np.frombuffer(self._map, np.uint8).ctypes.data

    def __del__(self, advice=_GIVE_BACK):  # bound now: at the interpreter's end names may be gone
        if advice is not None and hasattr(self, "_map"):
            self._map.madvise(advice)


class BatchMemory:
    """The slots of batches of one size: used again, warm, when no array or tensor over them is left."""

    def __init__(self, file: SharedFile, shape: tuple[int, ...]):
        """Args: what slots are cut from, and the shape of the batches, uint8; nothing is allotted yet."""
        self._file, self._shape = file, shape
        self._free: collections.deque[Slot] = collections.deque()

    def lend(self) -> tuple[int, np.ndarray]:
        """(offset in the file, array over the slot there), uint8 of the batches' shape, of any content, page-aligned."""
        try:
            slot = self._free.pop()
        except IndexError:
            slot = self._file.slot(int(np.prod(self._shape)))
        return slot.offset, np.asarray(_Loan(slot, self._shape, self._free))


class _Loan:
    """What the arrays over a slot hold: goes with the last of them, and the slot is free again."""

    def __init__(self, slot: Slot, shape: tuple[int, ...], free: collections.deque):
        self.__array_interface__ = {
            "data": (slot.address, False),
            "shape": shape,
            "typestr": "|u1",
            "version": 3,
        }
        self._slot, self._free = slot, free

    def __del__(self):
        self._free.append(self._slot)


# A process that decodes, and its siblings: pairs are read, parsed, decoded and resized into
# memory shared with the parent.
#
# python -m fv.pipeline.decoding_processes MEMORY CONNECTION…    (descriptors, inherited from
# `decoding_processes`)
#
# It knows no TensorFlow, no damage and no identities: what it cannot decode it leaves to its
# parent, which looks at it again
# and says what is wrong. Siblings are forked when all is imported: each is there at once and
# shares most of its memory.

Source = (
    bytes | tuple[str, int, int] | None
)  # a record, or where its frame lies: shard, first byte, byte behind the last
Answer = tuple[bytes, list[bytes]]  # labels, int8, and identities, two of each pair
UNDECODED = -1  # label of a pair that was left

CONNECTIONS = (
    2  # of a process: while it works on a task the next one waits in the other, and idles no core
)
_MAPS = 256  # of batches' memory; more than there are at one time
_NOBODY = (b"", b"")  # identities of a pair that could not be parsed
_DONE_TO_A_WHOLE_GROUP = (
    signal.SIGINT,
    signal.SIGTERM,
)  # they are for the parent; its end is the end of this process


def main() -> None:
    """Forks a process for every `CONNECTIONS` connections, each of which answers until its parent is gone."""
    for number in _DONE_TO_A_WHOLE_GROUP:
        signal.signal(number, signal.SIG_IGN)
    memory, *descriptors = map(int, sys.argv[1:])
    gc.freeze()
    gc.disable()  # nothing here refers to itself
    while descriptors:
        ours, descriptors = descriptors[:CONNECTIONS], descriptors[CONNECTIONS:]
        if os.fork() == 0:
            for other in descriptors:
                os.close(other)
            _serve(memory, [connection.Connection(descriptor) for descriptor in ours])
            return
        for descriptor in ours:
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
            for asking in connection.wait(connections):
                asking.send(decoder.decode(*asking.recv()))
    except (EOFError, OSError):
        return  # the parent is gone


class _Decoder:
    def __init__(self, memory: int):
        self._frames, self._loader = FrameReader(), preprocessing.Loader()
        self._map = functools.lru_cache(_MAPS)(functools.partial(_map, memory))

    def decode(
        self, offset: int, image_size: int, crop_fraction: float, sources: Sequence[Source]
    ) -> Answer:
        """Decodes pairs into the memory that begins at `offset`, uint8 [pairs, 2, image_size, image_size, 3]."""
        shape = (len(sources), 2, image_size, image_size, preprocessing.CHANNELS)
        images = np.frombuffer(self._map(offset, int(np.prod(shape))), np.uint8).reshape(shape)
        # All are parsed before the first is decoded: turn by turn each pushes the other out of the processor's caches, 5 %.
        pairs = [self._parse(source) for source in sources]
        labels = array.array(
            "b",
            (self._load(pair, crop_fraction, *to) for pair, to in zip(pairs, images, strict=True)),
        )
        return labels.tobytes(), [
            name for pair in pairs for name in (pair.identities if pair else _NOBODY)
        ]

    def _parse(self, source: Source) -> Pair | None:
        if source is None:
            return None
        try:
            return record.parse_pair(
                source if isinstance(source, bytes) else self._frames.read(*source)
            )
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


def _map(memory: int, offset: int, size: int) -> mmap.mmap:
    return mmap.mmap(memory, size, offset=offset)


if __name__ == "__main__":
    main()


_MODULE = "fv.pipeline.decoding_processes"
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
def shared_processes() -> DecodingProcesses:
    """Those that all pipelines of this process share."""
    return DecodingProcesses(workers.available_cores())
