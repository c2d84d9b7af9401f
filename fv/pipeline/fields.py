"""From serialised records to fields, as tensors or on the host, and from identities' names to their indices."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf
from google.protobuf import message

from fv import record

IMAGES = (record.IMAGE_A, record.IMAGE_B)
NO_RECORD = -1  # index of padding
NO_IDENTITY = -1  # index of a person outside the training split
_NO_IDENTITIES = ("",)  # a lookup table cannot be empty, a name is never
_NEEDED = (*IMAGES, record.IDENTITY_A, record.IDENTITY_B)
_LABELS = (record.GENUINE, record.IMPOSTOR)
_FEATURES = {name: tf.io.FixedLenFeature([], tf.string) for name in record.BYTES_FIELDS}
_FEATURES |= {name: tf.io.FixedLenFeature([], tf.int64) for name in record.INT64_FIELDS}
_parse_example = tf.train.Example.FromString


class Pair(NamedTuple):
    """What a batch is made of: two JPEGs, the label, and the UTF-8 names of the people."""

    images: tuple[bytes, bytes]
    label: int
    identities: tuple[bytes, bytes]


def parse_one(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
    """The fields of one record; the op raises InvalidArgumentError where one is missing."""
    return tf.io.parse_single_example(encoded, _FEATURES)


def parse_on_host(encoded: bytes) -> Pair:
    """The fields of one record, by protobuf's own parser in C: 5.5 µs, a fourteenth of `record.decode_pair`.

    Raises:
      DamagedRecordError: not an Example, a field is missing or not a single value of its type, or the label is neither.
    """
    try:
        features = _parse_example(encoded).features.feature
        values = [features[name].bytes_list.value for name in _NEEDED]
        (first,), (second,), (one,), (other,), (label,) = *values, features[record.LABEL].int64_list.value
    except (message.DecodeError, ValueError):
        pair = record.decode_pair(encoded)  # says what is wrong
        first, second, one, other, label = (pair[name] for name in (*_NEEDED, record.LABEL))
    if label not in _LABELS:
        raise record.DamagedRecordError(f"{record.LABEL} is neither 0 nor 1")
    return Pair((first, second), label, (one, other))


def identities(pairs: dict[str, tf.Tensor]) -> tf.Tensor:
    """Names of both people of each pair, string [..., 2]."""
    return tf.stack([pairs[record.IDENTITY_A], pairs[record.IDENTITY_B]], axis=-1)


def indexing(names: Sequence[str]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from names, string, to their place in `names`, int32 of the same shape, `NO_IDENTITY` where they have none.

    It holds a lookup table, which cannot travel to a tf.data service.
    """
    keys = tf.constant(names or _NO_IDENTITIES)
    values = tf.range(tf.size(keys), dtype=tf.int32)
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default_value=NO_IDENTITY)
    return table.lookup


def indexing_on_host(names: Sequence[str]) -> Callable[[Sequence[bytes]], list[int]]:
    """As `indexing`, for the names of one pair, outside TensorFlow."""
    places = {name.encode(): place for place, name in enumerate(names)}
    return lambda pair: [places.get(name, NO_IDENTITY) for name in pair]
