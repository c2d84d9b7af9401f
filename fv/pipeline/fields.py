"""From serialised records to tensors, and from identities' names to their indices."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from fv import record

IMAGES = (record.IMAGE_A, record.IMAGE_B)
HOLE = b""  # stands for a record that is padding, or that was skipped
NO_RECORD = -1  # index of padding
MISSING_LABEL = -1
_NO_IDENTITIES = ("",)  # a lookup table cannot be empty, a name is never
_FEATURES = {name: tf.io.FixedLenFeature([], tf.string) for name in record.BYTES_FIELDS}
_FEATURES |= {name: tf.io.FixedLenFeature([], tf.int64) for name in record.INT64_FIELDS}
_LENIENT = {name: tf.io.FixedLenFeature([], tf.string, "") for name in record.BYTES_FIELDS}
_LENIENT |= {name: tf.io.FixedLenFeature([], tf.int64, MISSING_LABEL) for name in record.INT64_FIELDS}


def parse_one(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
    """The fields of one record; the op raises InvalidArgumentError where one is missing."""
    return tf.io.parse_single_example(encoded, _FEATURES)


def parse_batch(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
    """The fields of records, string [n], 2.2 × as fast as one by one; "" or `MISSING_LABEL` where one is missing."""
    return tf.io.parse_example(encoded, _LENIENT)


def identities(pairs: dict[str, tf.Tensor]) -> tf.Tensor:
    """Names of both people of each pair, string [..., 2]."""
    return tf.stack([pairs[record.IDENTITY_A], pairs[record.IDENTITY_B]], axis=-1)


def indexing(names: Sequence[str]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from names, string, to their place in `names`, int32 of the same shape, -1 where they have none.

    It holds a lookup table, which cannot travel to a tf.data service.
    """
    keys = tf.constant(names or _NO_IDENTITIES)
    values = tf.range(tf.size(keys), dtype=tf.int32)
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default_value=-1)
    return table.lookup
