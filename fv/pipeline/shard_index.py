"""Where the records of a shard lie, found as far as they are asked for."""

import array
import threading

from fv import files, record

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
