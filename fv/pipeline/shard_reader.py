"""Random access to the records of shards on a disk, from the threads that decode them."""

import bisect
import functools
import itertools
import os
from collections.abc import Sequence

from fv import record
from fv.pipeline.damage import BadRecords
from fv.pipeline.shard_index import ShardIndex
from fv.pipeline.slices import Slice

_OPEN_FILES = 64  # some more than the shards that an order has records of at one time


class ShardReader:
    """The records of a worker's slices by their index, checksums checked; any number of threads may read."""

    def __init__(self, parts: Sequence[Slice], bad: BadRecords):
        """Args: the slices, and who is told of damaged records and says when they are too many."""
        self._parts, self._bad = parts, bad
        self._firsts = [0, *itertools.accumulate(part.take for part in parts)]
        self._indexes = [ShardIndex(part.path) for part in parts]
        self._opened = functools.lru_cache(_OPEN_FILES)(_OpenFile)

    def read(self, index: int) -> bytes | None:
        """The data of record `index` of the slices, None where it is damaged and may be skipped.

        Raises:
          UserError: it is damaged, or cannot be read, and is one more than may be skipped.
        """
        place = bisect.bisect_right(self._firsts, index) - 1
        path, skip, _ = self._parts[place]
        number, begin = skip + index - self._firsts[place], 0
        try:
            begin, end, reason = self._indexes[place].span(number)
            if not reason:
                return self._read_frame(path, begin, end)
        except record.DamagedRecordError as error:
            reason = str(error)
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
        self._bad.add(path, number, begin, reason)
        return None

    def _read_frame(self, path: str, begin: int, end: int) -> bytes:
        """The data of the frame at bytes [begin, end); read, for a map of a file that is cut short ends in SIGBUS."""
        file = self._opened(path)  # held: it would be closed where another thread's takes its place
        body = os.pread(file.number, end - begin - record.HEAD_BYTES, begin + record.HEAD_BYTES)
        return record.checked_data(body, end - begin - record.FRAME_BYTES)


class _OpenFile:
    """A file's descriptor, closed when the last thread has let go of it."""

    def __init__(self, path: str):
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self, close=os.close):  # bound now: at the interpreter's end the module's names may be gone
        if hasattr(self, "number"):
            close(self.number)
