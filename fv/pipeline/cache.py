"""Caches of a worker's records in memory, filled in one pass, for the host's decoder."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures

import numpy as np
import tensorflow as tf

from fv import image_ops, progress, record, workers
from fv.errors import UserError
from fv.pipeline import damage, decoders
from fv.pipeline.damage import DamagedRecords
from fv.pipeline.shards import PairSource, ShardReader, Slice, count_records

_RECORDS_AT_ONCE = 256
_DIGEST_BYTES = 16
_ALIGNMENT = 64  # bytes; TensorFlow takes over an array that is aligned so, and copies any other


def hold_encoded(
    source: PairSource,
    slices: Sequence[Slice],
    records: Iterable[bytes | None],
    damaged: DamagedRecords,
) -> list[bytes | None]:
    """Holds the records of a worker's slices for the host's decoder.

    Args:
      source: the pairs.
      slices: of a worker.
      records: theirs in order, None for one that was skipped.
      damaged: counts damaged records.

    Raises:
      UserError: they do not fit in memory, or more records are damaged than may be skipped.
    """
    count, shards = count_records(slices), source.split.shards
    stored = sum(shard.bytes for shard in shards), sum(shard.records for shard in shards)
    workers.require_memory("--cache=encoded", stored[0] * count // stored[1], f"{count:,} records")
    with damage.name_damaged_record(source.folder, shards, damaged):
        return list(records)


class DecodedCache:
    """Holds the pixels of every distinct image once, however many pairs it is in.

    Batches are made by copying pixels. Records that were skipped have no valid row.
    """

    def __init__(
        self,
        source: PairSource,
        slices: Sequence[Slice],
        records: Iterable[bytes | None],
        index_of: Callable[[Sequence[bytes]], list[int]],
        reader: ShardReader,
    ):
        """Decodes the records of a worker's slices.

        Args:
          source: the pairs.
          slices: of a worker.
          records: theirs in order, None for one that was skipped.
          index_of: the map from a pair's identities to their indices.
          reader: counts the records that do not decode.

        Raises:
          UserError: they do not fit in memory, more records are damaged than may be skipped, or
            more images are distinct than the manifest says.
        """
        count, side = count_records(slices), source.image_size
        shape = (min(source.split.images, 2 * count), side, side, image_ops.CHANNELS)
        workers.require_memory(
            "--cache=decoded",
            int(np.prod(shape)),
            f"{shape[0]:,} images of {side} × {side} pixels",
        )
        self._images = np.zeros(shape, np.uint8)  # untouched pages take no memory
        self._rows = np.zeros((count, 2), np.int32)
        self._labels = np.full(count, record.IMPOSTOR, np.int32)
        self._identities = np.full((count, 2), record.NO_IDENTITY, np.int32)
        self._valid = np.zeros(count, bool)
        with damage.name_damaged_record(source.folder, source.split.shards, reader.damaged):
            self._fill(records, source.crop_fraction, index_of, reader)

    def batches(self, indices: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Full batches of records by their indices."""
        shapes = decoders.batch_shapes(batch_size, (batch_size, 2, *self._images.shape[1:]))
        gather = decoders.python_op(self._gather, shapes)
        batches = indices.batch(batch_size, drop_remainder=True)
        return batches.map(gather, num_parallel_calls=workers.available_cores(), deterministic=True)

    def _gather(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        rows, valid = self._rows[indices], self._valid[indices]
        if not valid.all():
            rows[~valid] = rows[valid.argmax()]  # sound pixels, for BatchNorm
        images = _aligned_array((2 * len(rows), *self._images.shape[1:]))
        # Any mode but "clip" makes one more copy.
        np.take(self._images, rows.ravel(), axis=0, out=images, mode="clip")
        labels = np.where(valid, self._labels[indices], np.int32(record.IMPOSTOR))
        images = images.reshape(len(rows), 2, *images.shape[1:])
        return images, labels, self._identities[indices], valid

    def _fill(
        self,
        records: Iterable[bytes | None],
        crop_fraction: float,
        index_of: Callable[[Sequence[bytes]], list[int]],
        reader: ShardReader,
    ) -> None:
        numbered = enumerate(records)
        with (
            futures.ThreadPoolExecutor(workers.available_cores(), "decode") as threads,
            progress.Progress(len(self._labels), "decode", "pair") as shown,
        ):
            images = _DistinctImages(self._images, crop_fraction, threads)
            while block := list(itertools.islice(numbered, _RECORDS_AT_ONCE)):
                pairs = {}
                for index, encoded in block:
                    try:
                        if encoded is not None:
                            pairs[index] = record.parse_pair(encoded)
                    except record.DamagedRecordError as error:
                        reader.count_damaged(index, str(error))
                rows = images.add([pair.images for pair in pairs.values()])
                for (index, pair), row in zip(pairs.items(), rows, strict=True):
                    if field := images.damaged_field(row):
                        reader.count_damaged(index, damage.describe_damaged_image(field))
                        continue
                    self._rows[index], self._labels[index] = row, pair.label
                    self._identities[index] = index_of(pair.names)
                    self._valid[index] = True
                shown.update(len(block))


class _DistinctImages:
    """Gives each distinct image a row of an array, and decodes it into that."""

    def __init__(self, images: np.ndarray, crop_fraction: float, threads: futures.Executor):
        self._images, self._crop_fraction, self._threads = images, crop_fraction, threads
        self._row_of: dict[bytes, int] = {}
        self._damaged_rows: set[int] = set()

    def add(self, pairs: Sequence[tuple[bytes, bytes]]) -> list[list[int]]:
        """Rows of both images of each pair; those not seen before are decoded."""
        decoding: list[futures.Future] = []
        rows = [[self._row(data, decoding) for data in images] for images in pairs]
        for decoded in decoding:
            decoded.result()
        return rows

    def damaged_field(self, rows: Sequence[int]) -> str | None:
        """The first field of a pair whose image is damaged."""
        fields = zip(record.IMAGES, rows, strict=True)
        return next((field for field, row in fields if row in self._damaged_rows), None)

    def _row(self, data: bytes, decoding: list[futures.Future]) -> int:
        # By content: a path does not say what the bytes are.
        digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
        known = len(self._row_of)
        row = self._row_of.setdefault(digest, known)
        if row >= len(self._images):
            raise UserError(
                f"the shards hold more than the {known:,} distinct images of their manifest: "
                "convert again with --overwrite"
            )
        if row == known:
            decoding.append(self._threads.submit(self._decode, data, row))
        return row

    def _decode(self, data: bytes, row: int) -> None:
        try:
            image_ops.load_on_host(data, self._crop_fraction, self._images[row])
        except tf.errors.InvalidArgumentError:
            self._damaged_rows.add(row)


def _aligned_array(shape: tuple[int, ...]) -> np.ndarray:
    """Uninitialised uint8 memory that TensorFlow takes over without a copy."""
    size = int(np.prod(shape))
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)
