"""Damaged records: how many a run has met, how many it may skip, and the one line that names each.

The host's reader, decoder and cache count each damaged record by `DamagedRecords`. TensorFlow's ops
do not say which record failed, and none of theirs may be skipped: `name_damaged_record` searches
the shards for it.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence

import tensorflow as tf

from fv import errors, manifest, progress, record
from fv.errors import TemporaryError, UserError
from fv.manifest import Shard
from fv.pipeline import order

_FILE_ERRORS = (tf.errors.DataLossError, tf.errors.NotFoundError)
_READ_ERRORS = (*_FILE_ERRORS, tf.errors.InvalidArgumentError, tf.errors.UnknownError)
# One of them is in the message of every other error that reading or decoding raises.
_RECORD_WORDS = ("JPEG", "Example", "example", order.CUT_SHORT)


class DamagedRecords:
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

    def count_one(
        self, path: str, number: int, offset: int, reason: str, *, skippable: bool = True
    ) -> None:
        """Counts record `number`, at byte `offset` of a shard, and names it on stderr as skipped.

        Raises:
          UserError: it is one more than may be skipped, or is not `skippable`; it ends the run.
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
                self.error = UserError(manifest.damage_message(self._folder, line, which))
                raise self.error
            skipped = f"skipped {line} ({self.count} of at most {self.allowed})"
            print(skipped, file=sys.stderr, flush=True)

    def raise_if_sound(self, error: OSError) -> None:
        """Raises TemporaryError or UserError for a failure that says nothing about the record."""
        if errors.is_temporary(error):
            self.error = TemporaryError(errors.describe(error))
        elif errors.is_about_access(error):
            self.error = UserError(errors.describe(error))
        else:
            return
        raise self.error from error


@contextlib.contextmanager
def name_damaged_record(
    folder: str, shards: Sequence[Shard], damaged: DamagedRecords | None = None
) -> Iterator[None]:
    """Turns the error of a damaged record, met while the block reads, into one that names it.

    Args:
      folder: where the shards are.
      shards: those that the block reads.
      damaged: counts the block's damaged records; None for a command without --max_bad_records.

    Raises:
      UserError: a record is damaged, or more than may be skipped.
      TemporaryError: the shards could not be read, and this may pass.
    """
    try:
        yield
    except _READ_ERRORS as error:
        if damaged and damaged.error:
            raise damaged.error from error
        found = _find_damage(folder, shards) if _is_about_records(error) else None
        if found is None:
            raise
        if damaged:
            damaged.count_one(found.path, found.number, found.offset, found.reason, skippable=False)
        raise UserError(manifest.damage_message(folder, str(found), skippable=False)) from error


def describe_damaged_image(field: str) -> str:
    """The reason that is given for an image that does not decode."""
    return f"{field} is no whole JPEG"


def _is_about_records(error: tf.errors.OpError) -> bool:
    """Whether reading or decoding raised it: the training step's own errors have the same types."""
    return isinstance(error, _FILE_ERRORS) or any(word in str(error) for word in _RECORD_WORDS)


def _find_damage(folder: str, shards: Sequence[Shard]) -> record.DamagedShardError | None:
    """Finds the first damaged record of the shards; None if all are sound.

    Frames, their number and fields are checked first, which reads each shard once. Images are
    decoded only if all of those are sound.
    """
    records = sum(shard.records for shard in shards)
    for check in (record.decode_pair, _decode_images):
        with progress.Progress(records, "look for the damage", "pair") as line:
            for shard in shards:
                path = os.path.join(folder, shard.name)
                try:
                    for _ in record.read_records(path, shard.records, check):
                        line.update()
                except record.DamagedShardError as error:
                    return error
    return None


def _decode_images(data: bytes) -> None:
    pair = record.decode_pair(data)
    for name in record.IMAGES:
        try:
            tf.io.decode_jpeg(pair[name])
        except tf.errors.InvalidArgumentError as error:
            raise record.DamagedRecordError(describe_damaged_image(name)) from error
