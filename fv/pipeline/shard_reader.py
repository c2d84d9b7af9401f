"""Random access to the records of shards on a disk, by their index."""

import array
import bisect
import functools
import itertools
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fv import files, record
from fv.pipeline.slices import Slice

if TYPE_CHECKING:
    from fv.pipeline.damage import BadRecords

# Frames of records by their bytes' places in shards on a disk.

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


# Where the records of a shard lie, found as far as they are asked for.

MISSING = "is missing: the file ends before it"

_RECORDS_AHEAD = 256  # beyond the one asked for: the file is then opened once for so many
_READ_BUFFER_BYTES = 1 << 18  # a disk reads on in order while only heads are looked at
_BEHIND = "lies behind a record whose length is lost"


class ShardIndex:
    """The offsets of a shard's records, eight bytes each; any number of threads may ask.

    A shard is looked through in order, a little further than the records asked for: a training stream comes by them in
    nearly that order, so its first batch waits for a part of a few shards, however many and large they are.
    """

    def __init__(self, path: str):
        """Args: the shard's path; nothing is read yet."""
        self._path = path
        self._begins = array.array("q", [0])  # of each record found, and of what comes behind them
        self._lost = ""  # why nothing is known of that
        self._lock = threading.Lock()

    def span(self, number: int) -> tuple[int, int, str]:
        """(byte at which record `number` begins, byte at which it ends, why neither is known or "").

        Where they are not known both are the end of the last record that is. The data itself is not looked at.

        Raises:
          OSError: the shard cannot be read.
        """
        begins = self._begins
        if number + 1 >= len(begins):
            with self._lock:
                self._look_for(number)
            if number + 1 >= len(begins):
                return (
                    begins[-1],
                    begins[-1],
                    self._lost if number + 1 == len(begins) else self._reason_behind(),
                )
        return begins[number], begins[number + 1], ""

    def _look_for(self, number: int) -> None:
        """Finds record `number` and some behind it, or where no more can be found."""
        if self._lost or number + 1 < len(self._begins):
            return  # another thread has been here
        offset = self._begins[-1]
        with files.open_bytes(self._path, _READ_BUFFER_BYTES) as file:
            file.seek(offset)
            while len(self._begins) <= number + _RECORDS_AHEAD and not self._lost:
                head = file.read(record.HEAD_BYTES)
                try:
                    offset += record.data_length(head) + record.FRAME_BYTES
                except record.DamagedRecordError as error:
                    self._lost = str(error) if head else MISSING
                else:
                    self._begins.append(offset)
                    file.seek(offset)

    def _reason_behind(self) -> str:
        return MISSING if self._lost == MISSING else _BEHIND


Place = tuple[
    str, int, int
]  # path of the shard, byte at which the record's frame begins, byte at which it ends


class ShardReader:
    """The records of a worker's slices by their index, checksums checked; any number of threads may ask."""

    def __init__(self, parts: Sequence[Slice], bad: "BadRecords"):
        """Args: the slices, and who is told of damaged records and says when they are too many."""
        self._parts, self._bad = parts, bad
        self._firsts = [0, *itertools.accumulate(part.take for part in parts)]
        self._indexes = [ShardIndex(part.path) for part in parts]
        self._frames = FrameReader()

    def place(self, index: int) -> Place | None:
        """Where record `index` of the slices lies, None where that is not known: `read` says why."""
        shard, number = self._locate(index)
        try:
            begin, end, reason = self._indexes[shard].span(number)
        except OSError:
            return None
        return None if reason else (self._parts[shard].path, begin, end)

    def read(self, index: int) -> bytes | None:
        """The data of record `index` of the slices, None where it is damaged and may be skipped.

          Raises:
            UserError: it is damaged, or cannot be read, and is one more than may be skipped.
        TemporaryError: it cannot be read, and this may pass.
        """
        shard, number = self._locate(index)
        path, begin = self._parts[shard].path, 0
        try:
            begin, end, reason = self._indexes[shard].span(number)
            if not reason:
                return self._frames.read(path, begin, end)
        except record.DamagedRecordError as error:
            reason = str(error)
        except OSError as error:
            self._bad.raise_if_temporary(error)
            reason = f"cannot be read ({error.strerror})"
        self._bad.add(path, number, begin, reason)
        return None

    def _locate(self, index: int) -> tuple[int, int]:
        """(place of its shard among the slices, number of the record in the shard)."""
        shard = bisect.bisect_right(self._firsts, index) - 1
        return shard, self._parts[shard].skip + index - self._firsts[shard]
