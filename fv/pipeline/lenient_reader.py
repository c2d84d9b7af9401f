"""Reading on past damaged records: what is lost leaves a hole, so that every other record keeps its place."""

import functools
import itertools
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import tensorflow as tf

from fv import record
from fv.pipeline import fields, leaving
from fv.pipeline.damage import BadRecords

_RECORDS_AT_ONCE = 64  # one by one the way from Python to tf.data costs more than reading
_HEAD_BYTES = 12  # length and its checksum
_BEHIND = "lies behind a record whose length is lost"
_MISSING = "is missing: the file ends before it"


def reader(bad: BadRecords):
    """As `order.read_records`, with a hole where a record is damaged; each is reported to `bad`."""

    def read(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
        blocks = tf.data.Dataset.from_generator(
            functools.partial(_read_blocks, bad), args=(path, skip, take), output_signature=tf.TensorSpec([None], tf.string)
        )
        return tf.data.Dataset.zip((tf.data.Dataset.range(first, first + take), blocks.unbatch()))

    return read


def _read_blocks(bad: BadRecords, path: bytes, skip: int, take: int) -> Iterator[np.ndarray]:
    records = _read_slice(bad, path.decode(), int(skip), int(take))
    while True:
        with leaving.calls:
            block = list(itertools.islice(records, _RECORDS_AT_ONCE))
        if not block:
            return
        yield np.array(block, object)


def _read_slice(bad: BadRecords, path: str, skip: int, take: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        for number, (offset, data, reason) in enumerate(itertools.islice(_read_all(file), skip + take)):
            if number < skip:
                continue  # another worker's, which reports it
            if reason:
                bad.add(path, number, offset, reason)
            yield data


def _read_all(file: BinaryIO) -> Iterator[tuple[int, bytes, str]]:
    """(byte, data, "") of a sound record, (byte, hole, what is wrong) of a damaged one; holes for ever behind the last."""
    offset, ended = 0, False
    while not ended:
        try:
            for offset, data in record.read_frames(file):
                yield offset, data, ""
                offset = file.tell()
            ended, reason = True, _MISSING
        except record.DamagedRecordError as error:
            yield offset, fields.HOLE, str(error)
            # Only where the data alone is damaged does the file stand at the next record.
            ended, reason = file.tell() - offset <= _HEAD_BYTES, _BEHIND
            offset = offset if ended else file.tell()
    yield from itertools.repeat((offset, fields.HOLE, reason))
