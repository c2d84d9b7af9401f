"""Frames of records by their bytes' places in shards on a disk."""

import functools
import os

from fv import record

_OPEN_FILES = 64  # some more than the shards that an order has records of at one time


class FrameReader:
    """Keeps the shards open that were read last; any number of threads may read."""

    def __init__(self):
        self._opened = functools.lru_cache(_OPEN_FILES)(_OpenFile)

    def read(self, path: str, begin: int, end: int) -> bytes:
        """The data of the record whose frame lies at bytes [begin, end) of a shard, its checksum checked.

        Read, not mapped: a map of a file that is cut short meanwhile ends the process with SIGBUS.

        Raises:
          DamagedRecordError: the bytes are not those that were written.
          OSError: the shard cannot be read.
        """
        file = self._opened(path)  # held: it would be closed where another thread's takes its place
        body = os.pread(file.number, end - begin - record.HEAD_BYTES, begin + record.HEAD_BYTES)
        return record.checked_data(body, end - begin - record.FRAME_BYTES)


class _OpenFile:
    """A file's descriptor, closed when the last thread has let go of it."""

    def __init__(self, path: str):
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(
        self, close=os.close
    ):  # bound now: at the interpreter's end the module's names may be gone
        if hasattr(self, "number"):
            close(self.number)
