"""Memory that other processes fill and TensorFlow takes over without a copy."""

import collections
import mmap
import os
import tempfile
import threading

import numpy as np

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
