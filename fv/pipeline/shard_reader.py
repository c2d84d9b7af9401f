"""Random access to the records of shards on a disk, by their index."""

import bisect
import itertools
from collections.abc import Sequence

from fv import record
from fv.pipeline.damage import BadRecords
from fv.pipeline.frames import FrameReader
from fv.pipeline.shard_index import ShardIndex
from fv.pipeline.slices import Slice

Place = tuple[
    str, int, int
]  # path of the shard, byte at which the record's frame begins, byte at which it ends


class ShardReader:
    """The records of a worker's slices by their index, checksums checked; any number of threads may ask."""

    def __init__(self, parts: Sequence[Slice], bad: BadRecords):
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
