"""Reads an encoded image without decoding it, as graph ops: numbers, PNG chunks, EXIF orientation.

Sources: ITU-T T.81 (1992), annex B; PNG (Third Edition, 2025), 5.3 and 11.3.4.5; JEITA CP-3451
(Exif 2.3), sections 4.5 and 4.6.4.
"""

from collections.abc import Callable

import tensorflow as tf

UPRIGHT = 1  # EXIF orientation
_CHUNKS_AT = 8  # bytes before a PNG's first chunk
_CHUNK_BYTES = 12  # of a chunk without its data: length, name, checksum
_MARKER, _APP1, _SOS, _EOI = 0xFF, 0xE1, 0xDA, 0xD9  # of JPEG
_EXIF = b"Exif\0\0"  # name of the JPEG segment
_PNG_EXIF = b"eXIf"  # name of the PNG chunk
_TIFF_AT = 4 + len(_EXIF)  # bytes from a JPEG marker to the TIFF header: marker, length, name
_LITTLE_ENDIAN, _BIG_ENDIAN = b"II*\0", b"MM\0*"
_ORIENTATION_TAG = 0x0112
_TYPE_BYTES = {1: 1, 3: 2, 4: 4}  # bytes of a BYTE, SHORT and LONG
_ENTRY_BYTES = 12  # of a tag in a TIFF directory


def head_bytes(encoded: tf.Tensor, length: int) -> tf.Tensor:
    """Returns the first `length` bytes of a scalar string, uint8 [length], padded with zeros."""
    return tf.reshape(
        tf.io.decode_raw(tf.reshape(encoded, [1]), tf.uint8, fixed_length=length), [length]
    )


def count_marker(encoded: tf.Tensor, marker: bytes, most: int) -> tf.Tensor:
    """Counts a marker in each of several strings, and returns the largest count.

    Args:
      encoded: string [n].
      marker: the bytes to count.
      most: where counting stops.

    Returns:
      int64 scalar; 0 if n is 0.
    """
    # Splitting takes half as long as a regular expression.
    parts = tf.raw_ops.StringSplitV2(input=encoded, sep=marker, maxsplit=most).shape[1]
    return tf.maximum(parts - 1, 0)


def any_contains(encoded: tf.Tensor, marker: bytes) -> tf.Tensor:
    """Whether one of several strings, string [n], contains a marker, bool scalar."""
    return count_marker(encoded, marker, 1) > 0


def starts_with(data: tf.Tensor, name: bytes) -> tf.Tensor:
    """Whether uint8 [n] begins with a name, bool scalar."""
    wanted = tf.constant(tuple(name), tf.uint8)
    padded = tf.concat([data[: len(name)], tf.zeros([len(name)], tf.uint8)], axis=0)[: len(name)]
    return tf.reduce_all(padded == wanted) & (tf.size(data) >= len(name))


def little_endian(data: tf.Tensor) -> tf.Tensor:
    """Reads uint8 [n], n ≤ 4, as an unsigned number, least significant byte first; int64 scalar."""
    return tf.reduce_sum(
        tf.bitwise.left_shift(tf.cast(data, tf.int64), 8 * tf.range(tf.size(data, tf.int64)))
    )


def big_endian(data: tf.Tensor) -> tf.Tensor:
    """Reads a number like `little_endian`, most significant byte first."""
    return little_endian(tf.reverse(data, [0]))


def find_png_chunk(encoded: tf.Tensor, name: bytes) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the first chunk of a name in a PNG, scalar string.

    Returns:
      Whether there is one, bool scalar, and its data, uint8 [m], empty if there is none.
    """
    data = tf.io.decode_raw(encoded, tf.uint8)
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


def any_has_exif(encoded: tf.Tensor) -> tf.Tensor:
    """Whether one of several JPEGs, string [n], may have an EXIF segment, bool scalar."""
    return any_contains(encoded, _EXIF)


def read_jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the orientation in the first EXIF segment of a JPEG, scalar string.

    Returns:
      int64 scalar, 1 (upright) to 8; 1 if there is no EXIF segment, or a damaged one.
    """
    # Most JPEGs have none, and a search for its name is cheaper than a walk through the segments.
    return tf.cond(any_has_exif(encoded[tf.newaxis]), lambda: _walk_segments(encoded), _upright)


def read_png_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the orientation of a PNG; arguments and result as in `read_jpeg_orientation`."""

    def read_chunk():  # it may stand behind the pixels
        found, exif = find_png_chunk(encoded, _PNG_EXIF)
        return tf.cond(found, lambda: _read_exif(exif), _upright)

    named = any_contains(encoded[tf.newaxis], _PNG_EXIF)  # perhaps in a text
    return tf.cond(named, read_chunk, _upright)


def apply_orientation(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns an image [height, width, 3] of an EXIF orientation upright."""

    def change_if(values: tuple[int, ...], change: Callable[[], tf.Tensor], image: tf.Tensor):
        is_one = tf.reduce_any(orientation == tf.constant(values, tf.int64))
        return tf.cond(is_one, change, lambda: image)

    transposed = change_if((5, 6, 7, 8), lambda: tf.transpose(image, (1, 0, 2)), image)
    mirrored = change_if((2, 3, 6, 7), lambda: tf.reverse(transposed, (1,)), transposed)
    return change_if((3, 4, 7, 8), lambda: tf.reverse(mirrored, (0,)), mirrored)


def _upright() -> tf.Tensor:
    return tf.constant(UPRIGHT, tf.int64)


def _walk_segments(encoded: tf.Tensor) -> tf.Tensor:
    """Goes from segment to segment of a JPEG to the first with EXIF, and reads it."""
    padding = tf.zeros([_TIFF_AT], tf.uint8)  # so that the head of every segment can be read
    data = tf.concat([tf.io.decode_raw(encoded, tf.uint8), padding], axis=0)
    size = tf.size(data, tf.int64) - _TIFF_AT

    def is_exif(at):
        return starts_with(data[at + 4 : at + _TIFF_AT], _EXIF) & (data[at + 1] == _APP1)

    def goes_on(at):
        at = tf.minimum(at, size)
        last = (data[at + 1] == _SOS) | (data[at + 1] == _EOI)
        return (at < size) & (data[at] == _MARKER) & ~last & ~is_exif(at)

    def next_segment(at):
        fill = data[at + 1] == _MARKER  # any number of fill bytes may stand before a marker
        return (tf.where(fill, at + 1, at + 2 + big_endian(data[at + 2 : at + 4])),)

    (at,) = tf.while_loop(goes_on, next_segment, (tf.constant(2, tf.int64),))
    at = tf.minimum(at, size)
    end = tf.minimum(at + 2 + big_endian(data[at + 2 : at + 4]), size)
    return tf.cond(is_exif(at), lambda: _read_exif(data[at + _TIFF_AT : end]), _upright)


def _read_exif(exif: tf.Tensor) -> tf.Tensor:
    """The orientation in EXIF data, uint8 [n]; upright unless its tag is an integer from 1 to 8."""
    # Some programs write the name of the JPEG segment into a PNG, or twice into a JPEG.
    tiff = exif[tf.where(starts_with(exif, _EXIF), len(_EXIF), 0) :]
    little = starts_with(tiff, _LITTLE_ENDIAN)
    known = little | starts_with(tiff, _BIG_ENDIAN)
    size = tf.size(tiff, tf.int64)

    def number(data):
        return tf.where(little, little_endian(data), big_endian(data))

    at = tf.minimum(number(tiff[4:8]), size)
    count = tf.minimum(number(tiff[at : at + 2]), tf.maximum(size - at - 2, 0) // _ENTRY_BYTES)
    entries = tf.reshape(tiff[at + 2 : at + 2 + count * _ENTRY_BYTES], (count, _ENTRY_BYTES))
    low, high = _ORIENTATION_TAG & 0xFF, _ORIENTATION_TAG >> 8
    tag = tf.cast(tf.where(little, (low, high), (high, low)), tf.uint8)
    has_tag = tf.reduce_all(entries[:, :2] == tag, axis=1)
    entry = tf.reshape(tf.boolean_mask(entries, has_tag)[:1], [-1])  # of 12 bytes, or none
    type, values = number(entry[2:4]), number(entry[4:8])
    value = sum(
        tf.where(type == code, number(entry[8 : 8 + length]), 0)
        for code, length in _TYPE_BYTES.items()
    )
    return tf.where(known & (values == 1) & (value >= 1) & (value <= 8), value, UPRIGHT)
