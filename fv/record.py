"""What is in a record: the only place that knows the names inside a shard, and how its bytes are framed.

A record is one pair of face images, a serialised `tf.train.Example` (the message's fields are documented in
tfrecords/README.md). Writing needs no TensorFlow: the converter's processes start in a tenth of a second and stay small.
The bytes are those of protobuf's deterministic serialisation, so the same pair gives the same bytes everywhere.
"""

import functools
import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import google_crc32c

SCHEMA_VERSION = 1

IMAGE_A, IMAGE_B = "image_a/encoded", "image_b/encoded"  # JPEG bytes, RGB
IDENTITY_A, IDENTITY_B = "image_a/identity", "image_b/identity"  # UTF-8 names
PATH_A, PATH_B = "image_a/path", "image_b/path"  # UTF-8, relative to the images folder
LABEL = "label"  # int64, GENUINE or IMPOSTOR

GENUINE, IMPOSTOR = 1, 0

BYTES_FIELDS = (IMAGE_A, IMAGE_B, IDENTITY_A, IDENTITY_B, PATH_A, PATH_B)
INT64_FIELDS = (LABEL,)
_IN_ORDER = sorted((*BYTES_FIELDS, *INT64_FIELDS))

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = (
    0,
    1,
    2,
    5,
)  # wire types, https://protobuf.dev/programming-guides/encoding/
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_LENGTH = struct.Struct("<Q")
_CRC_BYTES = 4
HEAD_BYTES = _LENGTH.size + _CRC_BYTES  # of a frame: the length of its data, and the CRC of that
FRAME_BYTES = HEAD_BYTES + _CRC_BYTES  # of a frame, beside its data


class DamagedRecordError(ValueError):
    """The bytes are not those of a record; the message says what is wrong with them."""


def encode_pair(fields: Mapping[str, bytes | int]) -> bytes:
    """Serialises one pair.

    Args:
      fields: a value for every name in `BYTES_FIELDS` (bytes) and `INT64_FIELDS` (non-negative int).

    Returns:
      A serialised `tf.train.Example`, features in the order of their names.

    Raises:
      KeyError: a field is missing.
    """
    parts = []
    for name in _IN_ORDER:
        value = fields[name] if name in BYTES_FIELDS else _varint(fields[name])
        parts += (_entry_head(name, len(value)), value)
    body = b"".join(parts)  # the only copy of the images
    return _head(1, len(body)) + body


def frame(data: bytes) -> bytes:
    """One record as it stands in a TFRecord file: length, masked CRC32C of the length, data, masked CRC32C of the data.

    Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    length = _LENGTH.pack(len(data))
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


def decode_pair(data: bytes) -> dict[str, bytes | int]:
    """Reads what `encode_pair` wrote, or any other serialisation of the same `tf.train.Example`.

    Args:
      data: a serialised Example.

    Returns:
      The value of every name in `BYTES_FIELDS` and `INT64_FIELDS`; other features are passed over.

    Raises:
      DamagedRecordError: not an Example, or a field is missing or not a single value of its type.
    """
    features = {}
    for entry in _submessages(_only(_submessages(data, 1), "features"), 1):
        name = bytes(_only(_submessages(entry, 1), "feature name")).decode(errors="replace")
        features[name] = _only(_submessages(entry, 2), name)
    missing = [name for name in (*BYTES_FIELDS, *INT64_FIELDS) if name not in features]
    if missing:
        raise DamagedRecordError(f"field {missing[0]} is missing")
    values = {
        name: bytes(_only(_submessages(_list(features[name], 1, name), 1), name))
        for name in BYTES_FIELDS
    }
    return {
        **values,
        **{name: _single_int64(_list(features[name], 3, name), name) for name in INT64_FIELDS},
    }


def read_frames(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yields (byte at which it begins, data) of every record of a TFRecord file, its CRCs checked.

    Raises:
      DamagedRecordError: at the first record that is damaged or cut short.
    """
    offset = file.tell()
    while head := file.read(HEAD_BYTES):
        length = data_length(head)
        yield offset, checked_data(file.read(length + _CRC_BYTES), length)
        offset = file.tell()


def data_length(head: bytes) -> int:
    """Bytes of data in the frame whose first `HEAD_BYTES` these are.

    Raises:
      DamagedRecordError: they are fewer, or do not match their checksum.
    """
    if len(head) < HEAD_BYTES:
        raise DamagedRecordError("the file ends inside a record's length")
    length = head[: _LENGTH.size]
    if head[_LENGTH.size :] != _masked_crc(length):
        raise DamagedRecordError("the length does not match its checksum")
    return _LENGTH.unpack(length)[0]


def checked_data(body: bytes, length: int) -> bytes:
    """The `length` bytes of data of a frame, of all that stands behind its head.

    Raises:
      DamagedRecordError: the frame is cut short, or the data does not match its checksum.
    """
    if len(body) < length + _CRC_BYTES:
        raise DamagedRecordError("the file ends inside a record")
    data = body[:length]
    if body[length:] != _masked_crc(data):
        raise DamagedRecordError("the data does not match its checksum")
    return data


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@functools.lru_cache(maxsize=1 << 16)  # images have some thousand lengths, names few
def _entry_head(name: str, length: int) -> bytes:
    """What stands before the value of a feature, from the tag of its entry in Features on.

    Bytes are in Feature.bytes_list (1), integers packed in Feature.int64_list (3), the value is field 1 of either.
    """
    value = _head(1, length)
    lists = _head(1 if name in BYTES_FIELDS else 3, len(value) + length) + value
    feature = _head(2, len(lists) + length) + lists
    key = _head(1, len(name)) + name.encode()
    return _head(1, len(key) + len(feature) + length) + key + feature


def _head(field: int, length: int) -> bytes:
    """Tag and length of a length-delimited field."""
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(length)


@functools.lru_cache(maxsize=4096)  # tags and short lengths come again in every record
def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _submessages(data: bytes | memoryview, field: int) -> list[memoryview]:
    """The payloads of every length-delimited `field` of a message, in order."""
    return [
        payload
        for number, payload in _fields(data)
        if number == field and isinstance(payload, memoryview)
    ]


def _fields(data: bytes | memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yields (field number, payload) of a message: bytes where length-delimited, an int where a varint."""
    data, at = memoryview(data), 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            payload, at = _read_varint(data, at)
        else:
            length, at = (
                _read_varint(data, at)
                if kind == _LENGTH_DELIMITED
                else (_FIXED_BYTES.get(kind, len(data)), at)
            )
            payload, at = data[at : at + length], at + length
        if at > len(data):
            raise DamagedRecordError("not a tf.train.Example: a field reaches past its message")
        yield number, payload


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """(value, byte after it)"""
    value = 0
    for index, byte in enumerate(data[at : at + 10]):  # 64 bits at 7 to a byte
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise DamagedRecordError("not a tf.train.Example: an integer does not end")


def _list(feature: memoryview, kind: int, name: str) -> memoryview:
    """The list inside a Feature: BytesList is its field 1, Int64List its field 3."""
    return _only(_submessages(feature, kind), f"{name} as {'bytes' if kind == 1 else 'int64'}")


def _single_int64(int64_list: memoryview, name: str) -> int:
    """The one value of an Int64List, packed or not."""
    values = []
    for number, payload in _fields(int64_list):
        at = 0
        while number == 1 and isinstance(payload, memoryview) and at < len(payload):
            value, at = _read_varint(payload, at)
            values.append(value)
        if number == 1 and isinstance(payload, int):
            values.append(payload)
    value = _only(values, name)
    return value - (1 << 64) if value >> 63 else value


def _only(values: list, name: str):
    if len(values) != 1:
        raise DamagedRecordError(f"{len(values)} values of {name} where one belongs")
    return values[0]
