"""What memory holds of a worker's records after one pass over them; batches are then made of indices into it."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures

import numpy as np
import tensorflow as tf

from fv import preprocess, progress, record, workers
from fv.errors import UserError
from fv.pipeline import damage, host_decoder, order, slices
from fv.pipeline.damage import BadRecords
from fv.pipeline.slices import PairSource, Slice
from fv.pipeline.tensorflow_decoder import TensorFlowDecoder
from fv.record import Pair

# The pixels of every distinct image, held once however many pairs it is in; pairs are gathered
# from them by index.

_RECORDS_AT_ONCE = 256
_DIGEST_BYTES = 16
_ALIGNMENT = 64  # bytes; TensorFlow takes over an array that is aligned so, and copies any other


class DecodedCache:
    """Filled once, before the first step; batches are then made by copying."""

    def __init__(self, count: int, distinct: int, image_size: int):
        """Allots the memory.

        Args:
          count: number of records.
          distinct: most distinct images that there can be in them.
          image_size: side of the results in pixels.

        Raises:
          UserError: they do not fit in memory.
        """
        shape = (min(distinct, 2 * count), image_size, image_size, preprocess.CHANNELS)
        workers.require_memory(
            "--cache=decoded",
            int(np.prod(shape)),
            f"{shape[0]:,} images of {image_size} × {image_size} pixels",
        )
        self._images = np.zeros(shape, np.uint8)  # pages that no image comes to are never taken
        self._rows = np.zeros((count, 2), np.int32)
        self._labels = np.full(count, record.IMPOSTOR, np.int32)
        self._identities = np.full((count, 2), record.NO_IDENTITY, np.int32)
        self._valid = np.zeros(count, bool)

    def fill(
        self,
        records: Iterable[bytes | None],
        crop_fraction: float,
        index_of: Callable[[Sequence[bytes]], list[int]],
        parts: Sequence[Slice],
        bad: BadRecords,
    ) -> None:
        """Decodes each distinct image of the records; arguments as in `cache.hold_decoded`.

        Raises:
          UserError: more records are damaged than may be, or more images are distinct than the manifest says.
        """
        images, numbered = _DistinctImages(self._images, crop_fraction), enumerate(records)
        with progress.progress(len(self._labels), "decode", "pair") as shown:
            while block := list(itertools.islice(numbered, _RECORDS_AT_ONCE)):
                pairs = _parse(block, parts, bad)
                rows = images.add([pair.images for pair in pairs.values()])
                for (index, pair), row in zip(pairs.items(), rows, strict=True):
                    if reason := images.damage(row):
                        bad.add_record(parts, index, reason)
                        continue
                    self._rows[index], self._labels[index], self._valid[index] = (
                        row,
                        pair.label,
                        True,
                    )
                    self._identities[index] = index_of(pair.identities)
                shown.update(len(block))

    def batches(self, indices: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Full batches of records by their indices."""
        specification = (tf.uint8, tf.int32, tf.int32, tf.bool)
        names = ("images", "label", "identities", "valid")
        shapes = (
            (batch_size, 2, *self._images.shape[1:]),
            (batch_size,),
            (batch_size, 2),
            (batch_size,),
        )

        def gather(chosen: tf.Tensor) -> dict[str, tf.Tensor]:
            gathered = tf.numpy_function(self._gather, [chosen], specification, stateful=False)
            shaped = (
                tf.ensure_shape(values, shape)
                for values, shape in zip(gathered, shapes, strict=True)
            )
            return dict(zip(names, shaped, strict=True))

        batches = indices.batch(batch_size, drop_remainder=True)
        return batches.map(gather, num_parallel_calls=workers.available_cores(), deterministic=True)

    def _gather(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        with host_decoder.calls:
            return self._rows_of(indices)

    def _rows_of(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        rows, valid = self._rows[indices], self._valid[indices]
        if not valid.all():
            rows[~valid] = rows[valid.argmax()]  # sane pixels, for BatchNorm's statistics
        images = _aligned_array((2 * len(rows), *self._images.shape[1:]))
        np.take(
            self._images, rows.ravel(), axis=0, out=images, mode="clip"
        )  # any other mode makes a copy more
        labels = np.where(valid, self._labels[indices], np.int32(record.IMPOSTOR))
        return (
            images.reshape(len(rows), 2, *images.shape[1:]),
            labels,
            self._identities[indices],
            valid,
        )


class _DistinctImages:
    """Gives each distinct image a row of an array and decodes it into that."""

    def __init__(self, images: np.ndarray, crop_fraction: float):
        self._images, self._crop_fraction = images, crop_fraction
        self._row_of: dict[bytes, int] = {}
        self._broken: set[int] = set()

    def add(self, pairs: Sequence[tuple[bytes, bytes]]) -> list[list[int]]:
        """Rows of both images of each pair; those not seen before are decoded."""
        decoding = []
        rows = [[self._row(data, decoding) for data in images] for images in pairs]
        for decoded in decoding:
            decoded.result()
        return rows

    def damage(self, rows: Sequence[int]) -> str:
        """What is wrong with the images of one pair, "" where nothing is."""
        broken = (
            name for name, row in zip(record.IMAGES, rows, strict=True) if row in self._broken
        )
        return next(map(host_decoder.describe_undecodable, broken), "")

    def _row(self, data: bytes, decoding: list[futures.Future]) -> int:
        digest = hashlib.blake2b(
            data, digest_size=_DIGEST_BYTES
        ).digest()  # a path alone does not say what the bytes are
        known = len(self._row_of)
        row = self._row_of.setdefault(digest, known)
        if row >= len(self._images):
            raise UserError(
                f"the shards hold more than the {known:,} distinct images of their manifest: convert again with --overwrite"
            )
        if row == known:
            decoding.append(_decoding_threads().submit(self._decode, data, row))
        return row

    def _decode(self, data: bytes, row: int) -> None:
        try:
            preprocess.load_on_host(data, self._crop_fraction, self._images[row])
        except tf.errors.InvalidArgumentError:
            self._broken.add(row)


def _parse(
    block: Iterable[tuple[int, bytes | None]], parts: Sequence[Slice], bad: BadRecords
) -> dict[int, Pair]:
    """The pairs of those records that are sound, by their indices."""
    pairs = {}
    for index, encoded in block:
        try:
            if encoded is not None:
                pairs[index] = record.parse_pair(encoded)
        except record.DamagedRecordError as error:
            bad.add_record(parts, index, str(error))
    return pairs


@functools.lru_cache(maxsize=1)
def _decoding_threads() -> futures.Executor:
    """As many threads as there are cores, shared by all caches that are filled in this process."""
    return futures.ThreadPoolExecutor(workers.available_cores(), "decode")


def _aligned_array(shape: tuple[int, ...]) -> np.ndarray:
    """Uninitialised uint8 memory that TensorFlow takes over without a copy."""
    size = int(np.prod(shape))
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)


def hold_encoded(
    source: PairSource, parts: Sequence[Slice], records: Iterable[bytes | None], bad: BadRecords
) -> list:
    """The records of a worker's slices, for the host decoder; arguments and errors as in `hold_decoded`."""
    _check_encoded_fits(source, parts)
    with damage.report_damaged_record(source.folder, source.split.shards, bad):
        return list(records)


def hold_encoded_for_kernels(
    source: PairSource, parts: Sequence[Slice], decoder: TensorFlowDecoder
) -> "EncodedCache":
    """Holds the records of a worker's slices for TensorFlow's kernels.

    Raises:
      UserError: they do not fit in memory, or one is damaged.
    """
    _check_encoded_fits(source, parts)
    with damage.report_damaged_record(source.folder, source.split.shards):
        return EncodedCache(
            order.stored_order(parts, order.read_records), slices.count_records(parts), decoder
        )


def hold_decoded(
    source: PairSource,
    parts: Sequence[Slice],
    records: Iterable[bytes | None],
    index_of: Callable[[Sequence[bytes]], list[int]],
    bad: BadRecords,
) -> DecodedCache:
    """Holds the pixels of a worker's slices.

    Args:
      source: the pairs.
      parts: the slices.
      records: theirs in order, None in the place of one that was skipped.
      index_of: the map from a pair's identities to their indices.
      bad: is told of records that do not decode, and says when they are too many.

    Raises:
      UserError: they do not fit in memory, more records are damaged than may be, or the manifest counts too few images.
    """
    held = DecodedCache(slices.count_records(parts), source.split.images, source.image_size)
    with damage.report_damaged_record(source.folder, source.split.shards, bad):
        held.fill(records, source.crop_fraction, index_of, parts, bad)
    return held


class EncodedCache:
    """The records as they are, in a tensor of TensorFlow's."""

    def __init__(self, records: tf.data.Dataset, count: int, decoder: TensorFlowDecoder):
        """Reads `count` records, (index, encoded) in the order of the indices; the decoder makes batches of them."""
        self._decoder = decoder
        self._records = records.map(lambda _, encoded: encoded).batch(count).get_single_element()

    def batches(self, indices: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Full batches of records by their indices."""
        return self._decoder.batches(
            indices.map(lambda index: (index, tf.gather(self._records, index))), batch_size
        )


def _check_encoded_fits(source: PairSource, parts: Sequence[Slice]) -> None:
    count, stored = slices.count_records(parts), source.split
    needed = (
        sum(shard.bytes for shard in stored.shards)
        * count
        // sum(shard.records for shard in stored.shards)
    )
    workers.require_memory("--cache=encoded", needed, f"{count:,} records")
