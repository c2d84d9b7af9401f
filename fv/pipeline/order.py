"""The order of a worker's records: a pure function of (seed, epoch, slices).

A slice reader says what is read of each record, which does not change the order: `read_records`
yields whole records, and `read_indices` their indices only.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from fv.pipeline.shards import Slice, count_records

CUT_SHORT = "a shard holds fewer records than its manifest says"

# Makes a data set of one element for each record of a slice. The arguments are scalars: the shard's
# path; how many records of the shard come before the slice; how many are in the slice; and how many
# are in the worker's slices before it, which is the index of its first record.
SliceReader = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.data.Dataset]

_READ_BUFFER_BYTES = 1 << 20
_SHARDS_READ_AT_ONCE = 8
# A prime: neighbouring seeds share no epoch's order for the first million epochs.
_EPOCHS_PER_SEED = 1_000_003
# Any but 0: with 0, tf.data would compare the epoch's seed, a tensor, with 0 in Python.
_GRAPH_SEED = 1


def repeat_epochs(
    slices: Sequence[Slice],
    seed: int,
    shuffle_buffer: int,
    read: SliceReader,
    *,
    start: int = 0,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Shuffled epochs of the slices' records without end.

    Args:
      slices: of this input worker.
      seed: of the order.
      shuffle_buffer: elements held for shuffling.
      read: reads the elements of one slice.
      start: records of the stream to skip, of which only those of the current epoch are read.
      first_epoch: number of the stream's first epoch, on which its order depends.
    """
    epochs, skip = divmod(start, count_records(slices))

    @tf.autograph.experimental.do_not_convert
    def shuffled_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        # Of flat_map's graph alone: tf.random.set_seed must not change the order.
        tf.compat.v1.set_random_seed(_GRAPH_SEED)
        shuffle = dict(seed=seed * _EPOCHS_PER_SEED + epoch, reshuffle_each_iteration=False)
        ordered = slice_dataset(slices).shuffle(len(slices), **shuffle)
        # interleave opens a shard only when its turn comes.
        elements = ordered.interleave(read, cycle_length=_SHARDS_READ_AT_ONCE)
        return elements.shuffle(shuffle_buffer, **shuffle)

    numbers = tf.data.Dataset.range(first_epoch + epochs, tf.int64.max)
    return numbers.flat_map(shuffled_epoch).skip(skip)


def stored_order(slices: Sequence[Slice], read: SliceReader) -> tf.data.Dataset:
    """Every element once, as the shards hold them."""
    return slice_dataset(slices).flat_map(read)


def slice_dataset(slices: Sequence[Slice]) -> tf.data.Dataset:
    """The slices as a `SliceReader` takes them, each with the index of its first record."""
    return tf.data.Dataset.from_tensor_slices(slice_columns(slices))


def slice_columns(slices: Sequence[Slice]) -> tuple:
    """The arguments of a `SliceReader` for each slice: paths, skips, takes, firsts."""
    paths, skips, takes = zip(*slices, strict=True)
    firsts = np.cumsum((0, *takes[:-1]))
    return list(paths), *(np.array(each, np.int64) for each in (skips, takes, firsts))


@tf.autograph.experimental.do_not_convert
def read_records(
    path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor, first: tf.Tensor
) -> tf.data.Dataset:
    """(index: int64, encoded: string) of each record of a slice, checksums verified by TensorFlow.

    A file that ends before the slice does is no error to TensorFlow's reader. Here it raises
    InvalidArgumentError with `CUT_SHORT`.
    """
    records = tf.data.TFRecordDataset(path, buffer_size=_READ_BUFFER_BYTES).skip(skip)
    records = records.concatenate(_raise_cut_short(path)).take(take)
    return tf.data.Dataset.zip((tf.data.Dataset.range(first, first + take), records))


@tf.autograph.experimental.do_not_convert
def read_indices(
    path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor, first: tf.Tensor
) -> tf.data.Dataset:
    """The index, int64, of each record of a slice, without reading it."""
    del path, skip
    return tf.data.Dataset.range(first, first + take)


def _raise_cut_short(path: tf.Tensor) -> tf.data.Dataset:
    """One element that raises when it is read, in graph ops only: a tf.data service runs it too."""

    def fail(path: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(path, ""), [CUT_SHORT, path])]):
            return tf.identity(path)

    return tf.data.Dataset.from_tensors(path).map(fail)
