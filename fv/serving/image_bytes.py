"""What stands in an image file's bytes, read in the graph: numbers in its header, and how often a marker comes."""

import tensorflow as tf


def head(encoded: tf.Tensor, length: int) -> tf.Tensor:
    """The first `length` bytes of a scalar string, uint8 [length]; zeros follow where it is shorter."""
    return tf.reshape(tf.io.decode_raw(tf.reshape(encoded, [1]), tf.uint8, fixed_length=length), [length])


def most_occurrences(encoded: tf.Tensor, marker: bytes, enough: int) -> tf.Tensor:
    """How often a marker stands in the one of some strings that has most of it, counted up to `enough`.

    Args:
      encoded: string [n].
      marker: the bytes that are counted.
      enough: where counting ends.

    Returns:
      int64 scalar, 0 where there is no string. (A regular expression takes twice as long.)
    """
    parts = tf.raw_ops.StringSplitV2(input=encoded, sep=marker, maxsplit=enough).shape[1]
    return tf.maximum(parts - 1, 0)


def big_endian(data: tf.Tensor) -> tf.Tensor:
    """The unsigned number in uint8 [n], most significant byte first; int64 scalar, for n up to 4."""
    count = tf.size(data, tf.int64)
    return tf.reduce_sum(tf.bitwise.left_shift(tf.cast(data, tf.int64), 8 * (count - 1 - tf.range(count))))


def little_endian(data: tf.Tensor) -> tf.Tensor:
    """As `big_endian`, least significant byte first."""
    return tf.reduce_sum(tf.bitwise.left_shift(tf.cast(data, tf.int64), 8 * tf.range(tf.size(data, tf.int64))))


def signed(number: tf.Tensor) -> tf.Tensor:
    """The 32-bit two's complement number whose unsigned reading is `number`."""
    return tf.where(number < 1 << 31, number, number - (1 << 32))
