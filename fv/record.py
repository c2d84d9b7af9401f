"""What is in a record: the only place that knows the names inside a shard, and how its bytes are framed.

A record is one pair of face images, a serialised `tf.train.Example` (the message's fields are documented in
tfrecords/README.md). Writing needs no TensorFlow: the converter's processes start in a tenth of a second and stay small.
The bytes are those of protobuf's deterministic serialisation, so the same pair gives the same bytes everywhere.
"""

import struct
from collections.abc import Mapping

import google_crc32c

SCHEMA_VERSION = 1

IMAGE_A, IMAGE_B = "image_a/encoded", "image_b/encoded"  # JPEG bytes, RGB
IDENTITY_A, IDENTITY_B = "image_a/identity", "image_b/identity"  # UTF-8 names
PATH_A, PATH_B = "image_a/path", "image_b/path"  # UTF-8, relative to the images folder
LABEL = "label"  # int64, GENUINE or IMPOSTOR

GENUINE, IMPOSTOR = 1, 0

BYTES_FIELDS = (IMAGE_A, IMAGE_B, IDENTITY_A, IDENTITY_B, PATH_A, PATH_B)
INT64_FIELDS = (LABEL,)

_LENGTH_DELIMITED = 2  # wire type, https://protobuf.dev/programming-guides/encoding/


def encode_pair(fields: Mapping[str, bytes | int]) -> bytes:
    """Serialises one pair.

    Args:
      fields: a value for every name in `BYTES_FIELDS` (bytes) and `INT64_FIELDS` (non-negative int).

    Returns:
      A serialised `tf.train.Example`, features in the order of their names.

    Raises:
      KeyError: a field is missing.
    """
    features = [(name, _bytes_feature(fields[name])) for name in BYTES_FIELDS]
    features += [(name, _int64_feature(fields[name])) for name in INT64_FIELDS]
    entries = (_message(1, _message(1, name.encode()) + _message(2, feature)) for name, feature in sorted(features))
    return _message(1, b"".join(entries))


def frame(data: bytes) -> bytes:
    """One record as it stands in a TFRecord file: length, masked CRC32C of the length, data, masked CRC32C of the data.

    Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _bytes_feature(value: bytes) -> bytes:
    return _message(1, _message(1, value))  # Feature.bytes_list, BytesList.value


def _int64_feature(value: int) -> bytes:
    return _message(3, _message(1, _varint(value)))  # Feature.int64_list, packed Int64List.value


def _message(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
