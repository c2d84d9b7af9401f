"""Parses records and looks up identities' indices without TensorFlow."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fv import record

IMAGES = (record.IMAGE_A, record.IMAGE_B)
NO_IDENTITY = -1  # index of a person outside the training split
_NEEDED = (*IMAGES, record.IDENTITY_A, record.IDENTITY_B)
_LABELS = (record.GENUINE, record.IMPOSTOR)


class Pair(NamedTuple):
    """What a batch is made of: two JPEGs, the label, and the UTF-8 names of the people."""

    images: tuple[bytes, bytes]
    label: int
    identities: tuple[bytes, bytes]


def parse(encoded: bytes) -> Pair:
    """Reads the fields of one record that a batch needs.

    Raises:
      DamagedRecordError: `record.decode_pair` refuses it, or the label is neither.
    """
    pair = record.decode_pair(encoded)
    if pair[record.LABEL] not in _LABELS:
        raise record.DamagedRecordError(f"{record.LABEL} is neither 0 nor 1")
    first, second, one, other = (pair[name] for name in _NEEDED)
    return Pair((first, second), pair[record.LABEL], (one, other))


def indexing(names: Sequence[str]) -> Callable[[Sequence[bytes]], list[int]]:
    """Returns a function from names to their places in `names`, `NO_IDENTITY` if not there."""
    places = {name.encode(): place for place, name in enumerate(names)}
    return lambda asked: [places.get(name, NO_IDENTITY) for name in asked]
