"""Damaged records: how many a run has met, how many it may skip, and the one line that names each.

Whatever reads or decodes counts a damaged record by `BadRecords`. The host's reader and decoder
report each one themselves. TensorFlow's do not say which record failed, and none of theirs may be
skipped: `report_damaged_record` searches the shards for it and counts it.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple, cast

import tensorflow as tf

from fv import errors, files, progress, record
from fv.errors import TemporaryError, UserError
from fv.manifest import Shard
from fv.pipeline import order, shard_reader

_FILE_ERRORS = (tf.errors.DataLossError, tf.errors.NotFoundError)
_READ_ERRORS = (*_FILE_ERRORS, tf.errors.InvalidArgumentError, tf.errors.UnknownError)
# One of them is in the message of every other error that reading or decoding raises.
_RECORD_WORDS = ("JPEG", "Example", "example", order.CUT_SHORT)


class BadRecords:
    """The damaged records that a process has met, each counted once however many epochs meet it."""

    def __init__(self, folder: str, allowed: int = 0):
        """Args: where the shards are, and how many records may be skipped."""
        self._folder, self.allowed = folder, allowed
        self._found: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        # The error that ended reading: an exception loses its type on the way through tf.data.
        self.error: UserError | TemporaryError | None = None

    @property
    def count(self) -> int:
        """Number of damaged records so far."""
        return len(self._found)

    def add(
        self, path: str, number: int, offset: int, reason: str, *, skippable: bool = True
    ) -> None:
        """Counts record `number`, at byte `offset` of the shard `path`, and reports it on stderr.

        Raises:
          UserError: it is one more than may be skipped, or is not `skippable`.
        """
        with self._lock:
            known = (path, number) in self._found
            if known and skippable:
                return
            self._found.add((path, number))
            line = f"{path}: record {number} at byte {offset}: {reason}"
            if self.count > self.allowed or not skippable:
                which = ""
                if self.allowed and self.count > self.allowed:
                    which = f"{self.count:,} records, {self.allowed:,} allowed, the last "
                self.error = UserError(line_of_damage(self._folder, line, which))
                raise self.error
            skipped = f"skipped {line} ({self.count} of at most {self.allowed})"
            print(skipped, file=sys.stderr, flush=True)

    def raise_if_temporary(self, error: OSError) -> None:
        """Raises TemporaryError for a failure that may pass and says nothing about the record."""
        try:
            errors.raise_if_temporary(error)
        except TemporaryError as temporary:
            self.error = temporary
            raise


@contextlib.contextmanager
def report_damaged_record(
    folder: str, shards: Sequence[Shard], bad: BadRecords | None = None
) -> Iterator[None]:
    """Turns the error of a damaged record, met while the block reads, into one that names it.

    Args:
      folder: where the shards are.
      shards: those that the block reads.
      bad: counts the block's damaged records; None for a command without --max_bad_records.

    Raises:
      UserError: a record is damaged, or more than may be skipped.
      TemporaryError: the shards could not be read, and this may pass.
    """
    try:
        yield
    except _READ_ERRORS as error:
        if bad and bad.error:
            raise bad.error from error
        found = _find_damage(folder, shards) if _is_about_records(error) else None
        if found is None:
            raise
        if bad:
            bad.add(*found, skippable=False)
        line = f"{found.path}: record {found.number} at byte {found.offset}: {found.reason}"
        raise UserError(line_of_damage(folder, line, skippable=False)) from error


def line_of_damage(folder: str, line: str, which: str = "", *, skippable: bool = True) -> str:
    """The message that a command ends with.

    Args:
      folder: where the shards are.
      line: names the record, and says what is wrong with it.
      which: how many there were.
      skippable: whether the command has --max_bad_records.
    """
    way = (
        "--max_bad_records=N skips up to N records"
        if skippable
        else "converting again with --overwrite mends it"
    )
    advice = f"python tools/inspect_tfrecords.py {folder} checks the whole set, {way}"
    return f"the shards in {folder} are damaged: {which}{line}; {advice}"


def describe_undecodable(field: str) -> str:
    """The reason that is given for an image that does not decode."""
    return f"{field} is no whole JPEG"


def _is_about_records(error: tf.errors.OpError) -> bool:
    """Whether reading or decoding raised it: the training step's own errors have the same types."""
    return isinstance(error, _FILE_ERRORS) or any(word in str(error) for word in _RECORD_WORDS)


class _Damage(NamedTuple):
    """A damaged record: its shard, its number there, the byte at which it begins, what is wrong."""

    path: str
    number: int
    offset: int
    reason: str


def _find_damage(folder: str, shards: Sequence[Shard]) -> _Damage | None:
    """The first damaged record of the shards, None where all are sound.

    Frames, their number and fields are checked first, which reads each shard once. Images are
    decoded only where all of those are sound.
    """
    return _find(folder, shards, record.decode_pair) or _find(folder, shards, _decode_images)


def _find(folder: str, shards: Sequence[Shard], check: Callable[[bytes], object]) -> _Damage | None:
    records = sum(shard.records for shard in shards)
    with progress.progress(records, "look for the damage", "pair") as line:
        for shard in shards:
            path, number, offset = os.path.join(folder, shard.name), 0, 0
            try:
                with cast(BinaryIO, files.open_bytes(path)) as file:
                    for offset, data in record.read_frames(file):
                        check(data)
                        number, offset = number + 1, offset + record.FRAME_BYTES + len(data)
                        line.update()
                if number < shard.records:
                    return _Damage(path, number, offset, shard_reader.MISSING)
            except record.DamagedRecordError as error:
                return _Damage(path, number, offset, str(error))
            except OSError as error:
                errors.raise_if_temporary(error)
                return _Damage(path, number, offset, f"cannot be read ({error.strerror})")
    return None


def _decode_images(data: bytes) -> None:
    pair = record.decode_pair(data)
    for name in record.IMAGES:
        try:
            tf.io.decode_jpeg(pair[name])
        except tf.errors.InvalidArgumentError as error:
            raise record.DamagedRecordError(describe_undecodable(name)) from error
