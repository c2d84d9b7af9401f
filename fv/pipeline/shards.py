"""What a pipeline reads: a split of converted pairs, each worker's slices of it, and their records.

Records are read by their index, checksums verified; any number of threads may read at once.
Decoding processes import this module, so it does not import TensorFlow.
"""

import array
import bisect
import dataclasses
import functools
import itertools
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fv import files, jpeg_loader, record
from fv.errors import UserError
from fv.manifest import Manifest, Split
from fv.preprocessing import Preprocessing

if TYPE_CHECKING:  # it imports TensorFlow
    from fv.pipeline.damage import DamagedRecords

# Path of the shard, byte at which the record's frame begins, byte at which it ends.
FrameLocation = tuple[str, int, int]

_BEHIND_LOST = "lies behind a record whose length is lost"
_OPEN_FILES = 64  # more than the shards of which a shuffled stream has records at one time
_RECORDS_AHEAD = 256  # indexed beyond the one asked for, so that a file is opened rarely
_READ_BUFFER_BYTES = 1 << 18  # the disk reads in sequence though only frame heads are looked at
# From this ratio to image_size on, sending the bytes to the device costs more than resizing on
# the host.
_LARGEST_LOAD_RATIO = 1.5


class Slice(NamedTuple):
    """Records [skip, skip + take) of one shard."""

    path: str
    skip: int
    take: int


@dataclasses.dataclass(frozen=True)
class PairSource:
    """A split of converted pairs and what is needed to turn its records into tensors.

    Attributes:
      folder: where the shards are.
      split: the split, from the manifest.
      image_size: side of the images in a batch, in pixels.
      crop_fraction: side of the centre square that is kept, over the shorter side, in (0, 1].
      identities: names whose position is their index in a batch's `identities`.
      preprocessing: what the converter did to the images.
      paths: if given, of each image the index of its identity; a batch then says which images it
        has, by their place in `paths`, instead of which identities.
    """

    folder: str
    split: Split
    image_size: int
    crop_fraction: float
    identities: tuple[str, ...] = ()
    preprocessing: Preprocessing = Preprocessing()
    paths: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls, folder: str, manifest: Manifest, split: str, image_size: int, crop_fraction: float
    ) -> "PairSource":
        """The split of that name, with identities indexed among the training split's."""
        return cls(
            folder,
            manifest.split(split),
            image_size,
            crop_fraction,
            manifest.splits["train"].identities if "train" in manifest.splits else (),
            manifest.preprocessing,
        )

    def worker_slices(self, worker: int, workers: int) -> list[Slice]:
        """The slices that input worker `worker` of `workers` reads in one epoch.

        Over all workers every record is read exactly once, and the workers' counts differ by at
        most one record, also with fewer shards than workers. Each worker gets a contiguous range.

        Raises:
          UserError: there are fewer records than workers.
        """
        records = sum(shard.records for shard in self.split.shards)
        if records < workers:
            raise UserError(
                f"{self.folder} has {records} pairs for {workers} input workers: "
                "convert more pairs or use fewer workers"
            )
        start, stop = records * worker // workers, records * (worker + 1) // workers
        slices, first = [], 0
        for shard in self.split.shards:
            skip, end = max(start - first, 0), min(stop - first, shard.records)
            if skip < end:
                slices.append(Slice(os.path.join(self.folder, shard.name), skip, end - skip))
            first += shard.records
        return slices


def count_records(slices: Sequence[Slice]) -> int:
    """Number of records in the slices."""
    return sum(each.take for each in slices)


def choose_load_size(
    requested: int | None, manifest: Manifest, image_size: int, crop_fraction: float
) -> int:
    """The side, in pixels, of the training images that leave the host.

    Args:
      requested: the user's choice. None for the default: the centre square at its stored size,
        where all stored images are squares of one size and it is at most 1.5 × `image_size`; else
        `image_size`.
      manifest: of the shards.
      image_size: side of the network's input in pixels.
      crop_fraction: side of the centre square that is kept, over the stored side.
    """
    if requested or manifest.image_side is None:
        return requested or image_size
    side = manifest.image_side
    _, _, window = jpeg_loader.centre_square(side, side, crop_fraction)
    return window if window <= _LARGEST_LOAD_RATIO * image_size else image_size


class ShardReader:
    """Reads the records of a worker's slices and counts damaged ones."""

    def __init__(self, slices: Sequence[Slice], damaged: "DamagedRecords"):
        """Args: the slices, and what counts their damaged records."""
        self.damaged = damaged
        self._slices = slices
        self._firsts = [0, *itertools.accumulate(each.take for each in slices)]
        self._indexes = [ShardIndex(each.path) for each in slices]
        self._frames = FrameReader()

    def locate(self, index: int) -> FrameLocation | None:
        """Where record `index` of the slices lies; None if unknown, and `read` says why."""
        place, number = self._find(index)
        try:
            begin, end, reason = self._indexes[place].span(number)
        except OSError:
            return None
        return None if reason else (self._slices[place].path, begin, end)

    def read(self, index: int) -> bytes | None:
        """The data of record `index` of the slices, or None for a damaged record that is skipped.

        Raises:
          UserError: the record is damaged and no more may be skipped, or its file may not be read.
          TemporaryError: the disk or the network failed in a way that may pass.
        """
        place, number = self._find(index)
        path, begin = self._slices[place].path, 0
        try:
            begin, end, reason = self._indexes[place].span(number)
            if not reason:
                return self._frames.read(path, begin, end)
        except record.DamagedRecordError as error:
            reason = str(error)
        except OSError as error:
            self.damaged.raise_if_sound(error)
            reason = f"cannot be read ({error.strerror})"
        self.damaged.count_one(path, number, begin, reason)
        return None

    def count_damaged(self, index: int, reason: str) -> None:
        """Counts record `index` of the slices as damaged, for a reason that `read` cannot see.

        Raises:
          UserError: no more records may be skipped.
        """
        place, number = self._find(index)
        begin, _, _ = self._indexes[place].span(number)
        self.damaged.count_one(self._slices[place].path, number, begin, reason)

    def _find(self, index: int) -> tuple[int, int]:
        """(place of the record's slice among the slices, number of the record in the shard)."""
        place = bisect.bisect_right(self._firsts, index) - 1
        return place, self._slices[place].skip + index - self._firsts[place]


class ShardIndex:
    """The byte offsets of a shard's records, eight bytes of memory each.

    It reads a shard only a little further than the records that were asked for. So the first batch
    of a training stream waits for the beginning of a few shards, however large they are.
    """

    def __init__(self, path: str):
        """Args: the shard's path; nothing is read yet."""
        self._path = path
        self._begins = array.array("q", [0])  # of each known record, and of what comes behind them
        self._lost = ""  # why the next record cannot be found
        self._lock = threading.Lock()

    def span(self, number: int) -> tuple[int, int, str]:
        """Finds the frame of record `number`, without checking its data.

        Returns:
          The byte at which the frame begins, the byte at which it ends, and an empty string. If the
          record cannot be found: twice the end of the last record that was found, and the reason.

        Raises:
          OSError: the shard cannot be read.
        """
        begins = self._begins
        if number + 1 >= len(begins):
            with self._lock:
                self._extend(number)
            if number + 1 >= len(begins):
                behind = number + 1 > len(begins) and self._lost != record.MISSING
                return begins[-1], begins[-1], _BEHIND_LOST if behind else self._lost
        return begins[number], begins[number + 1], ""

    def _extend(self, number: int) -> None:
        """Indexes record `number` and some behind it, as far as they can be found."""
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
                    self._lost = str(error) if head else record.MISSING
                else:
                    self._begins.append(offset)
                    file.seek(offset)


class FrameReader:
    """Reads frames by their location, and keeps the last shards that it read open."""

    def __init__(self):
        self._opened = functools.lru_cache(_OPEN_FILES)(_OpenFile)

    def read(self, path: str, begin: int, end: int) -> bytes:
        """The data of the record whose frame lies at bytes [begin, end) of a shard.

        Reads instead of mapping: a map of a file that is cut short meanwhile ends the process with
        SIGBUS.

        Raises:
          DamagedRecordError: the bytes do not match their checksum, or the file ends before them.
          OSError: the shard cannot be read.
        """
        file = self._opened(path)  # a reference: another thread may push it out of the cache
        body = os.pread(file.number, end - begin - record.HEAD_BYTES, begin + record.HEAD_BYTES)
        return record.checked_data(body, end - begin - record.FRAME_BYTES)


class _OpenFile:
    """A file descriptor that is closed when the last thread has let go of it."""

    def __init__(self, path: str):
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    # `close` is bound now: when the interpreter ends, the module's names may be gone.
    def __del__(self, close=os.close):
        if hasattr(self, "number"):
            close(self.number)
