"""EXIF orientation of a JPEG or a PNG, read and applied in the graph.

Source: JEITA CP-3451 (Exif 2.3), sections 4.5 and 4.6.4; ITU-T T.81 (1992), annex B; PNG (Third Edition, 2025), 5.3 and
11.3.4.5.
"""

from collections.abc import Callable

import tensorflow as tf

from fv.serving import image_bytes

UPRIGHT = 1
_EXIF = b"Exif\0\0"
_PNG_EXIF = b"eXIf"  # name of the chunk
_LITTLE_ENDIAN, _BIG_ENDIAN = b"II*\0", b"MM\0*"
_MARKER, _APP1, _SOS, _EOI = 0xFF, 0xE1, 0xDA, 0xD9
_TIFF_AT = 4 + len(_EXIF)  # bytes from a marker to the TIFF header: marker, length, name
_TAG = 0x0112
_TYPES = {1: 1, 3: 2, 4: 4}  # bytes of BYTE, SHORT, LONG
_ENTRY_BYTES = 12


def read(encoded: tf.Tensor) -> tf.Tensor:
    """Orientation of a JPEG.

    Args:
      encoded: scalar string, the bytes of a JPEG.

    Returns:
      int64 scalar, 1 (upright) to 8, of its first EXIF segment; 1 where there is none or it is damaged.
    """
    return tf.cond(may_be_turned(encoded[tf.newaxis]), lambda: _walk_segments(encoded), _upright)


def read_png(encoded: tf.Tensor) -> tf.Tensor:
    """As `read`, of a PNG."""
    named = image_bytes.most_occurrences(encoded[tf.newaxis], _PNG_EXIF, 1) > 0
    return tf.cond(named, lambda: _walk_chunks(encoded), _upright)


def may_be_turned(encoded: tf.Tensor) -> tf.Tensor:
    """Whether one of some JPEGs, string [n], has EXIF's name somewhere, bool scalar: most have not."""
    return image_bytes.most_occurrences(encoded, _EXIF, 1) > 0


def apply(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
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
        return (tf.where(fill, at + 1, at + 2 + image_bytes.big_endian(data[at + 2 : at + 4])),)

    (at,) = tf.while_loop(goes_on, next_segment, (tf.constant(2, tf.int64),))
    at = tf.minimum(at, size)
    end = tf.minimum(at + 2 + image_bytes.big_endian(data[at + 2 : at + 4]), size)
    return tf.cond(
        _is_exif(data, at), lambda: _from_tiff(_without_name(data[at + _TIFF_AT : end])), _upright
    )


def _is_exif(data: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    return image_bytes.starts_with(data[at + 4 : at + _TIFF_AT], _EXIF) & (data[at + 1] == _APP1)


def _walk_chunks(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the chunk with EXIF, which may stand behind the pixels."""
    found, exif = image_bytes.find_chunk(tf.io.decode_raw(encoded, tf.uint8), _PNG_EXIF)
    return tf.cond(found, lambda: _from_tiff(_without_name(exif)), _upright)


def _without_name(data: tf.Tensor) -> tf.Tensor:
    """EXIF data without the name of a JPEG's segment: some programs write it into a PNG, or twice into a JPEG."""
    return data[tf.where(image_bytes.starts_with(data, _EXIF), len(_EXIF), 0) :]


def _from_tiff(tiff: tf.Tensor) -> tf.Tensor:
    """The orientation behind a TIFF header, uint8 [n]; upright where its tag does not hold one integer from 1 to 8."""
    little = image_bytes.starts_with(tiff, _LITTLE_ENDIAN)
    known = little | image_bytes.starts_with(tiff, _BIG_ENDIAN)
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
    return tf.where(little, image_bytes.little_endian(data), image_bytes.big_endian(data))
