"""What stands in an image file's bytes, read in the graph: numbers in its header, and how often a marker comes."""

from collections.abc import Callable

import tensorflow as tf

_CHUNKS_AT = 8  # bytes before a PNG's first chunk
_CHUNK_BYTES = 12  # of a chunk beside its data: length, name, checksum


def head_bytes(encoded: tf.Tensor, length: int) -> tf.Tensor:
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


def signed_int32(number: tf.Tensor) -> tf.Tensor:
    """The 32-bit two's complement number whose unsigned reading is `number`."""
    return tf.where(number < 1 << 31, number, number - (1 << 32))


# EXIF orientation of a JPEG or a PNG, read and applied in the graph.
#
# Source: JEITA CP-3451 (Exif 2.3), sections 4.5 and 4.6.4; ITU-T T.81 (1992), annex B; PNG (Third
# Edition, 2025), 5.3 and
# 11.3.4.5.

UPRIGHT = 1
_EXIF = b"Exif\0\0"
_PNG_EXIF = b"eXIf"  # name of the chunk
_LITTLE_ENDIAN, _BIG_ENDIAN = b"II*\0", b"MM\0*"
_MARKER, _APP1, _SOS, _EOI = 0xFF, 0xE1, 0xDA, 0xD9
_TIFF_AT = 4 + len(_EXIF)  # bytes from a marker to the TIFF header: marker, length, name
_TAG = 0x0112
_TYPES = {1: 1, 3: 2, 4: 4}  # bytes of BYTE, SHORT, LONG
_ENTRY_BYTES = 12


def read_jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Orientation of a JPEG.

    Args:
      encoded: scalar string, the bytes of a JPEG.

    Returns:
      int64 scalar, 1 (upright) to 8, of its first EXIF segment; 1 where there is none or it is damaged.
    """
    return tf.cond(any_has_exif(encoded[tf.newaxis]), lambda: _walk_segments(encoded), _upright)


def read_png_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """As `read`, of a PNG."""
    named = most_occurrences(encoded[tf.newaxis], _PNG_EXIF, 1) > 0
    return tf.cond(named, lambda: _walk_chunks(encoded), _upright)


def any_has_exif(encoded: tf.Tensor) -> tf.Tensor:
    """Whether one of some JPEGs, string [n], has EXIF's name somewhere, bool scalar: most have not."""
    return most_occurrences(encoded, _EXIF, 1) > 0


def apply_orientation(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns an image [height, width, 3] of that orientation upright."""
    image = _change_if(orientation, (5, 6, 7, 8), lambda: tf.transpose(image, (1, 0, 2)), image)
    image = _change_if(orientation, (2, 3, 6, 7), lambda: tf.reverse(image, (1,)), image)
    return _change_if(orientation, (3, 4, 7, 8), lambda: tf.reverse(image, (0,)), image)


def _change_if(
    orientation: tf.Tensor, values: tuple[int, ...], change: Callable, image: tf.Tensor
) -> tf.Tensor:
    return tf.cond(
        tf.reduce_any(orientation == tf.constant(values, tf.int64)), change, lambda: image
    )


def _upright() -> tf.Tensor:
    return tf.constant(UPRIGHT, tf.int64)


def _walk_segments(encoded: tf.Tensor) -> tf.Tensor:
    """Goes from segment to segment to the first with EXIF, and reads that."""
    padding = tf.zeros([_TIFF_AT], tf.uint8)  # so that what is read at a segment is always there
    data = tf.concat([tf.io.decode_raw(encoded, tf.uint8), padding], axis=0)
    size = tf.size(data, tf.int64) - _TIFF_AT

    def goes_on(at):
        at = tf.minimum(at, size)
        last = (data[at + 1] == _SOS) | (data[at + 1] == _EOI)
        return (at < size) & (data[at] == _MARKER) & ~last & ~_is_exif(data, at)

    def next_segment(at):
        fill = data[at + 1] == _MARKER  # any number of these may stand before a marker
        return (tf.where(fill, at + 1, at + 2 + big_endian(data[at + 2 : at + 4])),)

    (at,) = tf.while_loop(goes_on, next_segment, (tf.constant(2, tf.int64),))
    at = tf.minimum(at, size)
    end = tf.minimum(at + 2 + big_endian(data[at + 2 : at + 4]), size)
    return tf.cond(
        _is_exif(data, at), lambda: _from_tiff(_without_name(data[at + _TIFF_AT : end])), _upright
    )


def _is_exif(data: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    return starts_with(data[at + 4 : at + _TIFF_AT], _EXIF) & (data[at + 1] == _APP1)


def _walk_chunks(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the chunk with EXIF, which may stand behind the pixels."""
    found, exif = find_chunk(tf.io.decode_raw(encoded, tf.uint8), _PNG_EXIF)
    return tf.cond(found, lambda: _from_tiff(_without_name(exif)), _upright)


def _without_name(data: tf.Tensor) -> tf.Tensor:
    """EXIF data without the name of a JPEG's segment: some programs write it into a PNG, or twice into a JPEG."""
    return data[tf.where(starts_with(data, _EXIF), len(_EXIF), 0) :]


def _from_tiff(tiff: tf.Tensor) -> tf.Tensor:
    """The orientation behind a TIFF header, uint8 [n]; upright where its tag does not hold one integer from 1 to 8."""
    little = starts_with(tiff, _LITTLE_ENDIAN)
    known = little | starts_with(tiff, _BIG_ENDIAN)
    size = tf.size(tiff, tf.int64)
    at = tf.minimum(_number(tiff[4:8], little), size)
    count = tf.minimum(
        _number(tiff[at : at + 2], little), tf.maximum(size - at - 2, 0) // _ENTRY_BYTES
    )
    entries = tf.reshape(tiff[at + 2 : at + 2 + count * _ENTRY_BYTES], (count, _ENTRY_BYTES))
    tag = tf.where(little, (_TAG & 0xFF, _TAG >> 8), (_TAG >> 8, _TAG & 0xFF))
    has_tag = tf.reduce_all(entries[:, :2] == tf.cast(tag, tf.uint8), axis=1)
    entry = tf.reshape(tf.boolean_mask(entries, has_tag)[:1], [-1])  # of 12 bytes, or none
    type, values = _number(entry[2:4], little), _number(entry[4:8], little)
    value = sum(
        tf.where(type == number, _number(entry[8 : 8 + bytes], little), 0)
        for number, bytes in _TYPES.items()
    )
    return tf.where(known & (values == 1) & (value >= 1) & (value <= 8), value, UPRIGHT)


def _number(data: tf.Tensor, little: tf.Tensor) -> tf.Tensor:
    return tf.where(little, little_endian(data), big_endian(data))
