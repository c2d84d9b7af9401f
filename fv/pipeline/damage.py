"""Damaged records: what reading one ends in, one line that names it, and how many of them a run may skip."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from fv import errors, files, progress, record
from fv.errors import TemporaryError, UserError
from fv.manifest import Shard
from fv.pipeline import order, shard_reader, slices
from fv.pipeline.shard_reader import ShardIndex
from fv.pipeline.slices import Slice

# The search for the first damaged record, for readers and decoders that do not say which it was.


def find_first_damage(folder: str, shards: Sequence[Shard]) -> str | None:
    """The first damaged record of the shards, as 'PATH: record N at byte B: what is wrong'; None where all are sound.

    Frames, their number and fields are checked first, which reads each shard once; images are decoded only where those are
    sound.

    Args:
      folder: where the shards are.
      shards: those that are searched, with the numbers of records that they should hold.
    """
    return _find(folder, shards, record.decode_pair) or _find(folder, shards, _decode_images)


def _find(folder: str, shards: Sequence[Shard], check: Callable[[bytes], object]) -> str | None:
    with progress.progress(
        sum(shard.records for shard in shards), "look for the damage", "pair"
    ) as line:
        for shard in shards:
            path, number, offset = os.path.join(folder, shard.name), 0, 0
            try:
                with files.open_bytes(path) as file:
                    for offset, data in record.read_frames(file):
                        check(data)
                        number, offset = number + 1, offset + record.FRAME_BYTES + len(data)
                        line.update()
                if number < shard.records:
                    raise record.DamagedRecordError(shard_reader.MISSING)
            except record.DamagedRecordError as error:
                return f"{path}: record {number} at byte {offset}: {error}"
            except OSError as error:
                errors.raise_if_temporary(error)
                return (
                    f"{path}: record {number} at byte {offset}: cannot be read ({error.strerror})"
                )
    return None


def _decode_images(data: bytes) -> None:
    pair = record.decode_pair(data)
    for name in record.IMAGES:
        try:
            tf.io.decode_jpeg(pair[name])
        except tf.errors.InvalidArgumentError as error:
            raise record.DamagedRecordError(f"{name} is no whole JPEG") from error


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
        path, number = slices.locate_record(parts, index)
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
def report_damaged_record(
    folder: str, shards: Sequence[Shard], bad: BadRecords | None = None
) -> Iterator[None]:
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
        line = find_first_damage(folder, shards)
        if line is None:
            raise
        raise UserError(line_of_damage(folder, line, skippable=bad is not None)) from error


def _is_about_records(error: tf.errors.OpError) -> bool:
    """Whether reading or decoding raised it: the step's own errors have the same types."""
    return isinstance(error, _OF_FILES) or any(word in str(error) for word in _OF_RECORDS)
