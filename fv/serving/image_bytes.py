"""What stands in an image file's bytes, read in the graph: numbers in its header, and how often a marker comes."""

import tensorflow as tf

_CHUNKS_AT = 8  # bytes before a PNG's first chunk
_CHUNK_BYTES = 12  # of a chunk beside its data: length, name, checksum


def head(encoded: tf.Tensor, length: int) -> tf.Tensor:
    """The first `length` bytes of a scalar string, uint8 [length]; zeros follow where it is shorter."""
    return tf.reshape(
        tf.io.decode_raw(tf.reshape(encoded, [1]), tf.uint8, fixed_length=length), [length]
    )


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


def starts_with(data: tf.Tensor, name: bytes) -> tf.Tensor:
    """Whether uint8 [n] begins with a name, bool scalar."""
    wanted = tf.constant(tuple(name), tf.uint8)
    padded = tf.concat([data[: len(name)], tf.zeros([len(name)], tf.uint8)], axis=0)[: len(name)]
    return tf.reduce_all(padded == wanted) & (tf.size(data) >= len(name))


def find_chunk(data: tf.Tensor, name: bytes) -> tuple[tf.Tensor, tf.Tensor]:
    """The first chunk of that name in a PNG, uint8 [n].

    Returns:
      Whether there is one, bool scalar, and its data, uint8 [m], empty where there is none.
    """
    size = tf.size(data, tf.int64)

    def is_named(at):
        return starts_with(data[at + 4 : at + 8], name)

    def goes_on(at):
        return (at + _CHUNK_BYTES <= size) & ~is_named(tf.minimum(at, size))

    def next_chunk(at):
        return (at + _CHUNK_BYTES + big_endian(data[at : at + 4]),)

    (at,) = tf.while_loop(goes_on, next_chunk, (tf.constant(_CHUNKS_AT, tf.int64),))
    at = tf.minimum(at, size)
    found = is_named(at)
    return found, data[at + 8 : at + 8 + tf.where(found, big_endian(data[at : at + 4]), 0)]


def big_endian(data: tf.Tensor) -> tf.Tensor:
    """The unsigned number in uint8 [n], most significant byte first; int64 scalar, for n up to 4."""
    count = tf.size(data, tf.int64)
    return tf.reduce_sum(
        tf.bitwise.left_shift(tf.cast(data, tf.int64), 8 * (count - 1 - tf.range(count)))
    )


def little_endian(data: tf.Tensor) -> tf.Tensor:
    """As `big_endian`, least significant byte first."""
    return tf.reduce_sum(
        tf.bitwise.left_shift(tf.cast(data, tf.int64), 8 * tf.range(tf.size(data, tf.int64)))
    )


def signed(number: tf.Tensor) -> tf.Tensor:
    """The 32-bit two's complement number whose unsigned reading is `number`."""
    return tf.where(number < 1 << 31, number, number - (1 << 32))
