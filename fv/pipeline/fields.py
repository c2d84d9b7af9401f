"""From serialised records to fields, and from identities' names to their indices, as tensors."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from fv import record
from fv.pipeline.fields_on_host import NO_IDENTITY

_NO_IDENTITIES = ("",)  # a lookup table cannot be empty, a name is never
_FEATURES = {name: tf.io.FixedLenFeature([], tf.string) for name in record.BYTES_FIELDS}
_FEATURES |= {name: tf.io.FixedLenFeature([], tf.int64) for name in record.INT64_FIELDS}


def parse_one(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
    """The fields of one record; the op raises InvalidArgumentError where one is missing."""
    return tf.io.parse_single_example(encoded, _FEATURES)


def identities(pairs: dict[str, tf.Tensor]) -> tf.Tensor:
    """Names of both people of each pair, string [..., 2]."""
    return tf.stack([pairs[record.IDENTITY_A], pairs[record.IDENTITY_B]], axis=-1)


def indexing(names: Sequence[str]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from names, string, to their place in `names`, int32 of the same shape, `NO_IDENTITY` where they have none.

    It holds a lookup table, which cannot travel to a tf.data service.
    """
    keys = tf.constant(names or _NO_IDENTITIES)
    values = tf.range(tf.size(keys), dtype=tf.int32)
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(keys, values), default_value=NO_IDENTITY
    )
    return table.lookup
