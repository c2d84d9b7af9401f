"""Records of shards: field names, serialisation, and TFRecord framing.

A record is one pair of face images, a serialised `tf.train.Example`; tfrecords/README.md documents
its fields. The message class is built here, so that the converter's workers and the pipeline's
decoding processes need no TensorFlow.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple, TypeVar

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format

from fv import errors, files

SCHEMA_VERSION = 1

IMAGE_A, IMAGE_B = "image_a/encoded", "image_b/encoded"  # JPEG bytes, RGB
IDENTITY_A, IDENTITY_B = "image_a/identity", "image_b/identity"  # UTF-8 names
PATH_A, PATH_B = "image_a/path", "image_b/path"  # UTF-8, relative to the images folder
LABEL = "label"  # int64, GENUINE or IMPOSTOR

GENUINE, IMPOSTOR = 1, 0  # labels: same person, different people
IMAGES = (IMAGE_A, IMAGE_B)
IDENTITIES, PATHS = (IDENTITY_A, IDENTITY_B), (PATH_A, PATH_B)
BYTES_FIELDS = (IMAGE_A, IMAGE_B, IDENTITY_A, IDENTITY_B, PATH_A, PATH_B)
INT64_FIELDS = (LABEL,)
NO_IDENTITY = -1  # index of a person outside the training split

# A frame is the length of the data, the CRC of the length, the data, and the CRC of the data.
_LENGTH = struct.Struct("<Q")
_CRC_BYTES = 4
HEAD_BYTES = _LENGTH.size + _CRC_BYTES  # before the data
FRAME_BYTES = HEAD_BYTES + _CRC_BYTES  # before and after the data
MISSING = "is missing: the file ends before it"  # what is wrong with a record that is not there

# tensorflow/core/example/example.proto and feature.proto without FloatList, which no record has.
_EXAMPLE = """
name: "example.proto" package: "tensorflow" syntax: "proto3"
message_type {
  name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES }
}
message_type {
  name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 }
}
message_type {
  name: "Feature"
  oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 type_name: ".tensorflow.BytesList" oneof_index: 0 }
  field { name: "int64_list" number: 3 type_name: ".tensorflow.Int64List" oneof_index: 0 }
}
message_type {
  name: "Features"
  nested_type {
    name: "FeatureEntry"
    options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type_name: ".tensorflow.Feature" }
  }
  field {
    name: "feature" number: 1 label: LABEL_REPEATED type_name: ".tensorflow.Features.FeatureEntry"
  }
}
message_type {
  name: "Example"
  field { name: "features" number: 1 type_name: ".tensorflow.Features" }
}
"""


Parsed = TypeVar("Parsed")


class DamagedRecordError(ValueError):
    """The bytes are not those of a record; the message says what is wrong with them."""


class DamagedShardError(DamagedRecordError):
    """A shard's first damaged record: `PATH: record N at byte B: what is wrong`.

    Attributes:
      path: the shard.
      number: number of the record in the shard, from 0.
      offset: the byte at which its frame begins.
      reason: what is wrong with it.
    """

    def __init__(self, path: str, number: int, offset: int, reason: str):
        super().__init__(f"{path}: record {number} at byte {offset}: {reason}")
        self.path, self.number, self.offset, self.reason = path, number, offset, reason


class Frame(NamedTuple):
    """A record of a shard: its number from 0, the byte at which its frame begins, and its data."""

    number: int
    offset: int
    data: bytes


class Pair(NamedTuple):
    """What a batch needs of a record: two JPEGs, the label, names of both people, both paths."""

    images: tuple[bytes, bytes]
    label: int
    names: tuple[bytes, bytes, bytes, bytes]


def message_class(description: str, name: str) -> type[message.Message]:
    """Builds a protobuf message class without generated code.

    Args:
      description: a FileDescriptorProto in protobuf's text format.
      name: full name of one of its messages.
    """
    # Not the default pool: TensorFlow registers its own descriptions of the same names there.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(description, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


Example = message_class(_EXAMPLE, "tensorflow.Example")


def encode_pair(fields: Mapping[str, bytes | int]) -> bytes:
    """Serialises one pair.

    Args:
      fields: a value for every name in `BYTES_FIELDS` (bytes) and `INT64_FIELDS` (int).

    Returns:
      A serialised `tf.train.Example`, the same bytes for the same pair on every machine.

    Raises:
      KeyError: a field is missing.
    """
    example = Example()
    features = example.features.feature
    for name in BYTES_FIELDS:
        features[name].bytes_list.value.append(fields[name])
    for name in INT64_FIELDS:
        features[name].int64_list.value.append(fields[name])
    return example.SerializeToString(deterministic=True)


def decode_pair(data: bytes) -> dict[str, bytes | int]:
    """Reads what `encode_pair` wrote, or any other serialisation of the same `tf.train.Example`.

    Args:
      data: a serialised Example.

    Returns:
      The value of every name in `BYTES_FIELDS` and `INT64_FIELDS`; other features are ignored.

    Raises:
      DamagedRecordError: not an Example, or a field is missing or not a single value of its type.
    """
    try:
        features = Example.FromString(data).features.feature
    except message.DecodeError as error:
        raise DamagedRecordError("not a tf.train.Example") from error
    return {name: _single_value(features, name) for name in (*BYTES_FIELDS, *INT64_FIELDS)}


def parse_pair(encoded: bytes) -> Pair:
    """Reads the fields of one record that a batch needs.

    Raises:
      DamagedRecordError: `decode_pair` refuses it, or the label is neither 0 nor 1.
    """
    pair: dict[str, Any] = decode_pair(encoded)
    if pair[LABEL] not in (GENUINE, IMPOSTOR):
        raise DamagedRecordError(f"{LABEL} is neither 0 nor 1")
    names = (pair[IDENTITY_A], pair[IDENTITY_B], pair[PATH_A], pair[PATH_B])
    return Pair((pair[IMAGE_A], pair[IMAGE_B]), pair[LABEL], names)


def identity_indexer(
    names: Sequence[str], paths: Sequence[str] = ()
) -> Callable[[Sequence[bytes]], list[int]]:
    """Returns a function from the `Pair.names` of some pairs to two indices for each pair.

    They are the people's indices in `names`, or, if there are `paths`, the images' indices in
    these; `NO_IDENTITY` if not there.
    """
    first = 2 if paths else 0
    indices = {name.encode(): index for index, name in enumerate(paths or names)}
    return lambda asked: [
        indices.get(name, NO_IDENTITY)
        for start in range(first, len(asked), 4)
        for name in asked[start : start + 2]
    ]


def frame(data: bytes) -> bytes:
    """Frames one record for a TFRecord file.

    Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    length = _LENGTH.pack(len(data))
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


def read_frames(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yields the first byte and the data of every frame of a TFRecord file, and checks its CRCs.

    Raises:
      DamagedRecordError: at the first record that is damaged or cut short.
    """
    offset = file.tell()
    while head := file.read(HEAD_BYTES):
        length = data_length(head)
        yield offset, checked_data(file.read(length + _CRC_BYTES), length)
        offset = file.tell()


def read_records(
    path: str, records: int, parse: Callable[[bytes], Parsed]
) -> Iterator[tuple[Frame, Parsed]]:
    """Yields every record of a shard, and what `parse` makes of its data.

    Args:
      path: the shard.
      records: number of records that the shard should hold.
      parse: decodes the data of a record, or raises DamagedRecordError.

    Raises:
      DamagedShardError: a record is damaged, missing, or beyond `records`, or the file cannot be
        read; of several, the first.
      TemporaryError: reading failed, and may succeed later.
      OSError: the file may not be read, or there are too many open files or too little memory.
    """
    number = offset = 0
    try:
        with files.open_bytes(path) as file:
            for offset, data in read_frames(file):
                if number == records:
                    raise DamagedRecordError(f"is beyond the {records} records of the manifest")
                yield Frame(number, offset, data), parse(data)
                number, offset = number + 1, offset + FRAME_BYTES + len(data)
        if number < records:
            raise DamagedRecordError(MISSING)
    except (DamagedRecordError, OSError) as error:
        errors.raise_if_temporary(error)
        if errors.is_about_access(error):
            raise
        reason = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        raise DamagedShardError(path, number, offset, reason) from error


def data_length(head: bytes) -> int:
    """Returns the length of a frame's data, from the first `HEAD_BYTES` of the frame.

    Raises:
      DamagedRecordError: `head` is cut short, or does not match its checksum.
    """
    if len(head) < HEAD_BYTES:
        raise DamagedRecordError("the file ends inside a record's length")
    length = head[: _LENGTH.size]
    if head[_LENGTH.size :] != _masked_crc(length):
        raise DamagedRecordError("the length does not match its checksum")
    return _LENGTH.unpack(length)[0]


def checked_data(body: bytes, length: int) -> bytes:
    """Returns the data of a frame, from all bytes after its head.

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


def _single_value(features: Mapping[str, Any], name: str) -> bytes | int:
    if name not in features:
        raise DamagedRecordError(f"field {name} is missing")
    kind = "int64" if name in INT64_FIELDS else "bytes"
    values = getattr(features[name], f"{kind}_list").value
    if len(values) != 1:
        raise DamagedRecordError(f"{len(values)} values of {name} as {kind} where one belongs")
    return values[0]
