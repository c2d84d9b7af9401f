"""EXIF orientation of a JPEG, read and applied in the graph.

Source: JEITA CP-3451 (Exif 2.3), sections 4.5 and 4.6.4; ITU-T T.81 (1992), annex B.
"""

from collections.abc import Callable

import tensorflow as tf

from fv.serving import image_bytes

UPRIGHT = 1
_EXIF = b"Exif\0\0"
_LITTLE_ENDIAN = ord("I")
_MARKER, _APP1, _SOS, _EOI = 0xFF, 0xE1, 0xDA, 0xD9
_TIFF_AT = 4 + len(_EXIF)  # bytes from a marker to the TIFF header: marker, length, name
_TAG = 0x0112
_ENTRY_BYTES = 12
_SEARCHED_BYTES = 1 << 18  # of the file: segments of 64 KB may stand before the one with EXIF


def read(encoded: tf.Tensor) -> tf.Tensor:
    """Orientation of a JPEG.

    Args:
      encoded: scalar string, the bytes of a JPEG.

    Returns:
      int64 scalar, 1 (upright) to 8; 1 where there is none or its segment is damaged.
    """
    upright = tf.constant(UPRIGHT, tf.int64)
    return tf.cond(
        may_be_turned(encoded[tf.newaxis]), lambda: _walk(tf.strings.substr(encoded, 0, _SEARCHED_BYTES)), lambda: upright
    )


def may_be_turned(encoded: tf.Tensor) -> tf.Tensor:
    """Whether one of some files, string [n], has EXIF's name somewhere, bool scalar: most have not."""
    return image_bytes.most_occurrences(encoded, _EXIF, 1) > 0


def apply(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns an image [height, width, 3] of that orientation upright."""
    image = _change_if(orientation, (5, 6, 7, 8), lambda: tf.transpose(image, (1, 0, 2)), image)
    image = _change_if(orientation, (2, 3, 6, 7), lambda: tf.reverse(image, (1,)), image)
    return _change_if(orientation, (3, 4, 7, 8), lambda: tf.reverse(image, (0,)), image)


def _change_if(orientation: tf.Tensor, values: tuple[int, ...], change: Callable, image: tf.Tensor) -> tf.Tensor:
    return tf.cond(tf.reduce_any(orientation == tf.constant(values, tf.int64)), change, lambda: image)


def _walk(head: tf.Tensor) -> tf.Tensor:
    """Goes from segment to segment to the one with EXIF, and reads that."""
    padding = tf.zeros([_TIFF_AT], tf.uint8)  # so that what is read at a segment is always there
    data = tf.concat([tf.io.decode_raw(head, tf.uint8), padding], axis=0)
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
    return tf.cond(
        _is_exif(data, at), lambda: _from_tiff(data[at + _TIFF_AT : size]), lambda: tf.constant(UPRIGHT, tf.int64)
    )


def _is_exif(data: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    name = tf.reduce_all(data[at + 4 : at + _TIFF_AT] == tf.constant(tuple(_EXIF), tf.uint8))
    return name & (data[at + 1] == _APP1)


def _from_tiff(tiff: tf.Tensor) -> tf.Tensor:
    """The value of the orientation tag in the first directory of a TIFF header, uint8 [n]."""
    little = tf.reduce_all(tiff[:1] == _LITTLE_ENDIAN)
    size = tf.size(tiff, tf.int64)
    at = tf.minimum(_number(tiff[4:8], little), size)
    count = tf.minimum(_number(tiff[at : at + 2], little), tf.maximum(size - at - 2, 0) // _ENTRY_BYTES)
    entries = tf.reshape(tiff[at + 2 : at + 2 + count * _ENTRY_BYTES], (count, _ENTRY_BYTES))
    tag = tf.where(little, (_TAG & 0xFF, _TAG >> 8), (_TAG >> 8, _TAG & 0xFF))
    has_tag = tf.reduce_all(entries[:, :2] == tf.cast(tag, tf.uint8), axis=1)
    values = tf.boolean_mask(entries[:, 8:10], has_tag)[:1]  # none or one
    value = tf.where(tf.size(values) > 0, _number(tf.reshape(values, [-1]), little), UPRIGHT)
    return tf.where((value >= 1) & (value <= 8), value, UPRIGHT)


def _number(data: tf.Tensor, little: tf.Tensor) -> tf.Tensor:
    return tf.where(little, image_bytes.little_endian(data), image_bytes.big_endian(data))
