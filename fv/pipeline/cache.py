"""What memory holds of a worker's records after one pass over them; batches are then made of indices into it."""

from collections.abc import Callable, Iterable, Sequence

import tensorflow as tf

from fv import resources
from fv.pipeline import damage, order, slices
from fv.pipeline.damage import BadRecords
from fv.pipeline.decoded_cache import DecodedCache
from fv.pipeline.slices import Slice
from fv.pipeline.source import PairSource
from fv.pipeline.tensorflow_decoder import TensorFlowDecoder


def hold_encoded(
    source: PairSource, parts: Sequence[Slice], records: Iterable[bytes | None], bad: BadRecords
) -> list:
    """The records of a worker's slices, for the host decoder; arguments and errors as in `hold_decoded`."""
    _check_encoded_fits(source, parts)
    with damage.reported(source.folder, source.split.shards, bad):
        return list(records)


def hold_encoded_for_kernels(
    source: PairSource, parts: Sequence[Slice], decoder: TensorFlowDecoder
) -> "EncodedCache":
    """Holds the records of a worker's slices for TensorFlow's kernels.

    Raises:
      UserError: they do not fit in memory, or one is damaged.
    """
    _check_encoded_fits(source, parts)
    with damage.reported(source.folder, source.split.shards):
        return EncodedCache(
            order.stored_order(parts, order.read_records), slices.count(parts), decoder
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
    held = DecodedCache(slices.count(parts), source.split.images, source.image_size)
    with damage.reported(source.folder, source.split.shards, bad):
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
    count, stored = slices.count(parts), source.split
    needed = (
        sum(shard.bytes for shard in stored.shards)
        * count
        // sum(shard.records for shard in stored.shards)
    )
    resources.check_fits("--cache=encoded", needed, f"{count:,} records")
