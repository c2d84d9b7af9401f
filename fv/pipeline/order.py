"""The order of a worker's records: a pure function of (seed, epoch, slices), whatever is read of each record.

What is read comes as a `Reader`, from a slice to a dataset of as many elements as the slice has records; so records from
disk and indices into a cache come in the same order.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from fv.pipeline import slices
from fv.pipeline.slices import Slice

CUT_SHORT = "a shard holds fewer records than its manifest says"

Reader = Callable[
    [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.data.Dataset
]  # (path, skip, take, index of the first)

_READ_BUFFER_BYTES = 1 << 20
_SHARDS_READ_AT_ONCE = 8
_EPOCHS_PER_SEED = (
    1_000_003  # a prime: neighbouring seeds share no epoch's order for the first million epochs
)
_GRAPH_SEED = 1  # any but 0, at which tf.data asks whether the epoch's seed, a tensor, is 0 too


def slice_dataset(parts: list[Slice]) -> tf.data.Dataset:
    """The slices as a `Reader` takes them, each with the index of its first record."""
    paths, skips, takes = zip(*parts, strict=True)
    firsts = np.cumsum((0, *takes[:-1]))
    return tf.data.Dataset.from_tensor_slices(
        (list(paths), np.int64(skips), np.int64(takes), np.int64(firsts))
    )


def repeat_epochs(
    parts: list[Slice],
    seed: int,
    shuffle_buffer: int,
    read: Reader,
    *,
    start: int = 0,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Epoch after epoch of the slices' records, behind the `start` that came before.

    The first of all epochs has the number `first_epoch`, on which its order depends.
    """
    epochs, skip = divmod(start, slices.count_records(parts))

    @tf.autograph.experimental.do_not_convert
    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        return shuffled_epoch(parts, seed, epoch, shuffle_buffer, read)

    return tf.data.Dataset.range(first_epoch + epochs, tf.int64.max).flat_map(one_epoch).skip(skip)


def shuffled_epoch(
    parts: list[Slice], seed: int, epoch: tf.Tensor, shuffle_buffer: int, read: Reader
) -> tf.data.Dataset:
    """One epoch: slices shuffled, several read at once, their elements shuffled in a buffer."""
    tf.compat.v1.set_random_seed(
        _GRAPH_SEED
    )  # of flat_map's graph alone: tf.random.set_seed must not change the order
    epoch_seed = seed * _EPOCHS_PER_SEED + epoch
    ordered = slice_dataset(parts).shuffle(
        len(parts), seed=epoch_seed, reshuffle_each_iteration=False
    )
    elements = ordered.interleave(
        read, cycle_length=_SHARDS_READ_AT_ONCE
    )  # opens a shard only when its turn comes
    return elements.shuffle(shuffle_buffer, seed=epoch_seed, reshuffle_each_iteration=False)


def stored_order(parts: list[Slice], read: Reader) -> tf.data.Dataset:
    """Every element once, as the shards hold them."""
    return slice_dataset(parts).flat_map(read)


@tf.autograph.experimental.do_not_convert
def read_records(
    path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor, first: tf.Tensor
) -> tf.data.Dataset:
    """(index: int64, encoded: string) of each record of a slice; TensorFlow's reader checks the checksums.

    Where the file ends before the slice does, which is no error to that reader, InvalidArgumentError says `CUT_SHORT`.
    """
    records = (
        tf.data.TFRecordDataset(path, buffer_size=_READ_BUFFER_BYTES)
        .skip(skip)
        .concatenate(_end_of_file(path))
    )
    return tf.data.Dataset.zip((tf.data.Dataset.range(first, first + take), records.take(take)))


@tf.autograph.experimental.do_not_convert
def read_indices(
    path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor, first: tf.Tensor
) -> tf.data.Dataset:
    """The index, int64, of each record of a slice, without reading it."""
    del path, skip
    return tf.data.Dataset.range(first, first + take)


def _end_of_file(path: tf.Tensor) -> tf.data.Dataset:
    """An element that cannot be had, in graph ops alone: it travels to a tf.data service."""

    def fail(path: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(path, ""), [CUT_SHORT, path])]):
            return tf.identity(path)

    return tf.data.Dataset.from_tensors(path).map(fail)
