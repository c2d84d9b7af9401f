"""What memory holds of a worker's records after one pass over them; batches are then made of indices into it."""

import hashlib
from collections.abc import Callable
from concurrent import futures

import numpy as np
import tensorflow as tf

from fv import preprocess, progress, record, workers
from fv.errors import UserError
from fv.pipeline import damage, fields, host_decoder, leaving, memory, order, slices
from fv.pipeline.damage import BadRecords
from fv.pipeline.host_decoder import HostDecoder
from fv.pipeline.slices import Slice
from fv.pipeline.source import PairSource
from fv.pipeline.tensorflow_decoder import TensorFlowDecoder

_SHARE = 0.8  # of the memory available; the rest is for batches, weights and whatever else runs
_RECORDS_AT_ONCE = 256
_DIGEST_BYTES = 16


def hold_encoded(
    source: PairSource, parts: list[Slice], read: order.Reader, decoder: TensorFlowDecoder | HostDecoder
) -> "EncodedCache":
    """Holds the records of a worker's slices.

    Raises:
      UserError: they do not fit in memory.
    """
    count, stored = slices.count(parts), source.split
    needed = sum(shard.bytes for shard in stored.shards) * count // sum(shard.records for shard in stored.shards)
    check_fits("--cache=encoded", needed, f"{count:,} records")
    return EncodedCache(order.stored_order(parts, read), count, decoder)


def hold_decoded(
    source: PairSource, parts: list[Slice], read: order.Reader, index_of: Callable, bad: BadRecords
) -> "DecodedCache":
    """Holds the pixels of a worker's slices.

    Raises:
      UserError: they do not fit in memory, more records are damaged than may be, or the manifest counts too few images.
    """
    held = DecodedCache(slices.count(parts), source.split.images, source.image_size)
    with damage.reported(source.folder, source.split.shards, bad):
        held.fill(order.stored_order(parts, read), source.crop_fraction, index_of, parts, bad)
    return held


def check_fits(flag: str, needed: int, held: str) -> None:
    """Checks that so many bytes can be held.

    Raises:
      UserError: they cannot, with both figures.
    """
    available = memory.available()
    if available is not None and needed > _SHARE * available:
        figures = f"{_mebibytes(needed)} for {held}, more than {_SHARE:.0%} of the {_mebibytes(available)} available"
        raise UserError(f"{flag} needs {figures}: use --cache=none, fewer pairs, smaller images or more input workers")


class EncodedCache:
    """The records as they are."""

    def __init__(self, records: tf.data.Dataset, count: int, decoder: TensorFlowDecoder | HostDecoder):
        """Reads `count` records, (index, encoded) in the order of the indices; the decoder makes batches of them."""
        self._decoder = decoder
        self._records = records.map(lambda _, encoded: encoded).batch(count).get_single_element()

    def batches(self, indices: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Full batches of records by their indices."""
        return self._decoder.batches(indices.map(lambda index: (index, tf.gather(self._records, index))), batch_size)


class DecodedCache:
    """The pixels of every distinct image, held once however many pairs it is in; pairs are gathered from them by index."""

    def __init__(self, count: int, distinct: int, image_size: int):
        """Allots the memory.

        Args:
          count: number of records.
          distinct: most distinct images that there can be in them.
          image_size: side of the results in pixels.

        Raises:
          UserError: they do not fit in memory.
        """
        shape = (min(distinct, 2 * count) + 1, image_size, image_size, preprocess.CHANNELS)  # the last for what is missing
        check_fits("--cache=decoded", int(np.prod(shape)), f"{shape[0] - 1:,} images of {image_size} × {image_size} pixels")
        self._images = np.empty(shape, np.uint8)  # pages that no image comes to are never taken
        self._rows = np.zeros((count, 2), np.int32)
        self._labels = np.full(count, record.IMPOSTOR, np.int32)
        self._identities = np.full((count, 2), -1, np.int32)
        self._valid = np.zeros(count, bool)

    def fill(
        self,
        records: tf.data.Dataset,
        crop_fraction: float,
        index_of: Callable[[tf.Tensor], tf.Tensor],
        parts: list[Slice],
        bad: BadRecords,
    ) -> None:
        """Reads (index, encoded) of every record, in any order, and decodes each distinct image.

        Args:
          records: holes among them where a record was skipped.
          crop_fraction, index_of, parts, bad: as in `host_decoder.HostDecoder`.

        Raises:
          UserError: more records are damaged than may be, or more images are distinct than the manifest says.
        """
        blocks = records.batch(_RECORDS_AT_ONCE).map(lambda indices, data: (indices, _parse(data, index_of))).prefetch(2)
        shown = progress.progress(len(self._labels), "decode", "pair")
        images = _DistinctImages(self._images, crop_fraction)
        with shown:
            for indices, (encoded, labels, identities) in blocks.as_numpy_iterator():
                self._rows[indices] = images.add(encoded)
                self._labels[indices], self._identities[indices] = labels, identities
                for index, pair, label in zip(indices, encoded, labels, strict=True):
                    reason = images.damage(self._rows[index]) or host_decoder.damaged_label(label)
                    self._valid[index] = not reason
                    if reason and not host_decoder.is_hole(label, pair):
                        bad.add_record(parts, int(index), reason)
                shown.update(len(indices))

    def batches(self, indices: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Full batches of records by their indices."""
        specification = (tf.uint8, tf.int32, tf.int32, tf.bool)
        names = ("images", "label", "identities", "valid")
        shapes = ((batch_size, 2, *self._images.shape[1:]), (batch_size,), (batch_size, 2), (batch_size,))

        def gather(chosen: tf.Tensor) -> dict[str, tf.Tensor]:
            gathered = tf.numpy_function(self._gather, [chosen], specification, stateful=False)
            shaped = (tf.ensure_shape(values, shape) for values, shape in zip(gathered, shapes, strict=True))
            return dict(zip(names, shaped, strict=True))

        batches = indices.batch(batch_size, drop_remainder=True)
        return batches.map(gather, num_parallel_calls=workers.cores(), deterministic=True)

    def _gather(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        with leaving.calls:
            return self._rows_of(indices)

    def _rows_of(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        rows, valid = self._rows[indices], self._valid[indices]
        if not valid.all():
            rows[~valid] = rows[valid.argmax()]  # sane pixels, for BatchNorm's statistics
        images = host_decoder.aligned_array((2 * len(rows), *self._images.shape[1:]))
        np.take(self._images, rows.ravel(), axis=0, out=images, mode="clip")  # any other mode makes a copy more
        labels = np.where(valid, self._labels[indices], np.int32(record.IMPOSTOR))
        return images.reshape(len(rows), 2, *images.shape[1:]), labels, self._identities[indices], valid


class _DistinctImages:
    """Gives each distinct image a row of an array and decodes it into that."""

    def __init__(self, images: np.ndarray, crop_fraction: float):
        self._images, self._crop_fraction = images, crop_fraction
        self._row_of: dict[bytes, int] = {}
        self._none = len(images) - 1  # the row of what is missing
        self._broken = {self._none}

    def add(self, encoded: np.ndarray) -> np.ndarray:
        """Rows, int32 [n, 2], of the images of n pairs, objects [n, 2]; those not seen before are decoded."""
        decoding = []
        rows = [self._row(data, decoding) for data in encoded.ravel()]
        for decoded in decoding:
            decoded.result()
        return np.int32(rows).reshape(encoded.shape)

    def damage(self, rows: np.ndarray) -> str:
        """What is wrong with the images of one pair, "" where nothing is."""
        return next(
            (host_decoder.no_jpeg(name) for name, row in zip(fields.IMAGES, rows, strict=True) if row in self._broken), ""
        )

    def _row(self, data: bytes, decoding: list[futures.Future]) -> int:
        if not data:
            return self._none
        digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()  # a path alone does not say what the bytes are
        row = self._row_of.setdefault(digest, len(self._row_of))
        if row == self._none:
            raise UserError(f"the shards hold more than the {row:,} distinct images of their manifest: convert again")
        if row == len(self._row_of) - 1:
            decoding.append(host_decoder.decoding_threads().submit(self._decode, data, row))
        return row

    def _decode(self, data: bytes, row: int) -> None:
        try:
            preprocess.load_on_host(data, self._crop_fraction, self._images[row])
        except tf.errors.InvalidArgumentError:
            self._broken.add(row)


def _parse(encoded: tf.Tensor, index_of: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Encoded images, labels and identities of a block of records."""
    pairs = fields.parse_batch(encoded)
    images = tf.stack([pairs[name] for name in fields.IMAGES], axis=1)
    return images, tf.cast(pairs[record.LABEL], tf.int32), index_of(fields.identities(pairs))


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
