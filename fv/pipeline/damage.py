"""Damaged records: what reading one ends in, one line that names it, and how many of them a run may skip."""

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence

import tensorflow as tf

from fv import errors
from fv.errors import TemporaryError, UserError
from fv.manifest import Shard
from fv.pipeline import first_damage, order, slices
from fv.pipeline.shard_index import ShardIndex
from fv.pipeline.slices import Slice

_OF_FILES = (tf.errors.DataLossError, tf.errors.NotFoundError)
_ANSWERED = (*_OF_FILES, tf.errors.InvalidArgumentError, tf.errors.UnknownError)
_OF_RECORDS = (
    "JPEG",
    "Example",
    "example",
    order.CUT_SHORT,
)  # one of them is in what reading or decoding raises


class BadRecords:
    """The damaged records that a process has met, each counted once however many epochs meet it."""

    def __init__(self, folder: str, allowed: int = 0):
        """Args: where the shards are, and how many records may be skipped."""
        self._folder, self.allowed = folder, allowed
        self._found: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        # Kept, since an exception loses its type on the way through tf.data.
        self.error: UserError | TemporaryError | None = None

    @property
    def count(self) -> int:
        """How many there were so far."""
        return len(self._found)

    def add_record(self, parts: Sequence[Slice], index: int, reason: str) -> None:
        """As `add`, for record `index` of a worker's slices."""
        path, number = slices.locate(parts, index)
        if (path, number) in self._found:
            return  # before the shard is looked through for the byte, in every epoch
        self.add(path, number, ShardIndex(path).span(number)[0], reason)

    def add(self, path: str, number: int, offset: int, reason: str) -> None:
        """Counts record `number`, at byte `offset` of the shard `path`, and prints it where it is skipped.

        Raises:
          UserError: it is one more than may be skipped.
        """
        with self._lock:
            if (path, number) in self._found:
                return
            self._found.add((path, number))
            line = f"{path}: record {number} at byte {offset}: {reason}"
            if self.count > self.allowed:
                self.error = UserError(self._refusal(line))
                raise self.error
            print(
                f"skipped {line} ({self.count} of at most {self.allowed})",
                file=sys.stderr,
                flush=True,
            )

    def raise_if_temporary(self, error: OSError) -> None:
        """Raises TemporaryError where reading failed for a moment, which says nothing about the record."""
        try:
            errors.raise_if_temporary(error)
        except TemporaryError as temporary:
            self.error = temporary
            raise

    def _refusal(self, line: str) -> str:
        which = (
            f"{self.count:,} records, {self.allowed:,} allowed, the last " if self.allowed else ""
        )
        return line_of_damage(self._folder, line, which)


def line_of_damage(folder: str, line: str, which: str = "", *, skippable: bool = True) -> str:
    """The one line that a run ends with; `skippable` where the command has --max_bad_records."""
    way = (
        "--max_bad_records=N skips up to N records"
        if skippable
        else "converting again with --overwrite mends it"
    )
    advice = f"python tools/inspect_tfrecords.py {folder} checks the whole set, {way}"
    return f"the shards in {folder} are damaged: {which}{line}; {advice}"


@contextlib.contextmanager
def reported(folder: str, shards: Sequence[Shard], bad: BadRecords | None = None) -> Iterator[None]:
    """Turns the errors of a damaged record, met while the block reads, into a user's error that names it.

    Args:
      folder: where the shards are.
      shards: those that the block reads.
      bad: what the block's reader and decoder reported to.

    Raises:
      UserError: a record is damaged, or more than may be.
      TemporaryError: the shards could not be read, and this may pass.
    """
    try:
        yield
    except _ANSWERED as error:
        if bad and bad.error:
            raise bad.error from error
        if not _is_about_records(error):
            raise
        line = first_damage.find(folder, shards)
        if line is None:
            raise
        raise UserError(line_of_damage(folder, line, skippable=bad is not None)) from error


def _is_about_records(error: tf.errors.OpError) -> bool:
    """Whether reading or decoding raised it: the step's own errors have the same types."""
    return isinstance(error, _OF_FILES) or any(word in str(error) for word in _OF_RECORDS)
