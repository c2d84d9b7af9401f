"""A BMP decoded in the graph, palettes included: TensorFlow's decoder takes palette indices for grey.

Source: Microsoft, BITMAPINFOHEADER and BITMAPV5HEADER structures (wingdi.h).
"""

from typing import NamedTuple

import tensorflow as tf

from fv.serving import image_bytes

_HEAD_BYTES = 70
_INFO_AT = 14  # the bitmap header stands behind the file's
_SMALLEST_HEADER = 40
_BITS = (8, 24, 32)  # a pixel
_UNCOMPRESSED, _MASKS = 0, 3
_STANDARD_MASKS = (0xFF0000, 0xFF00, 0xFF)  # blue first in the file, as without masks
_ALPHA_MASK = 0xFF000000
_ALPHA_HEADER = 56  # smallest header with an alpha mask
_PALETTE_ENTRY = 4  # bytes: blue, green, red, nothing
_PALETTE_BYTES = 256 * _PALETTE_ENTRY
_OPAQUE = 255


class Header(NamedTuple):
    """What a BMP's header says, int64 scalars, and why the file is not taken (a string, empty where it is)."""

    width: tf.Tensor
    height: tf.Tensor
    bits: tf.Tensor
    size: tf.Tensor
    has_alpha: tf.Tensor
    complaint: tf.Tensor


def read_header(encoded: tf.Tensor) -> Header:
    """Reads the header of a BMP, scalar string."""
    head = image_bytes.head(encoded, _HEAD_BYTES)
    size, compression, *masks, alpha = (
        image_bytes.little_endian(head[at : at + 4]) for at in (14, 30, 54, 58, 62, 66)
    )
    width, height = (
        image_bytes.signed(image_bytes.little_endian(head[at : at + 4])) for at in (18, 22)
    )
    bits = image_bytes.little_endian(head[28:30])
    standard = tf.reduce_all(
        [mask == wanted for mask, wanted in zip(masks, _STANDARD_MASKS, strict=True)]
    )
    masked = (compression == _MASKS) & (bits == 32)
    plain = (compression == _UNCOMPRESSED) | (masked & standard)
    complaint = tf.where(plain, "", "is a compressed BMP, which this model does not take")
    known = tf.reduce_any(bits == tf.constant(_BITS, tf.int64)) & (size >= _SMALLEST_HEADER)
    complaint = tf.where(
        known,
        complaint,
        "is a BMP of a kind that this model does not take: save it with 8, 24 or 32 bits",
    )
    has_alpha = masked & (size >= _ALPHA_HEADER) & (alpha == _ALPHA_MASK)
    return Header(width, tf.abs(height), bits, size, has_alpha, complaint)


def decode(encoded: tf.Tensor, header: Header) -> tf.Tensor:
    """Decodes a BMP that `read_header` takes; uint8 [height, width, 4], RGB and opacity.

    The ops raise InvalidArgumentError for a damaged file.
    """
    return tf.cond(
        header.bits == 32,
        lambda: _with_alpha(tf.io.decode_bmp(encoded, channels=4), header.has_alpha),
        lambda: tf.cond(
            header.bits == 24,
            lambda: _opaque(tf.io.decode_bmp(encoded, channels=3)),
            lambda: _opaque(_from_palette(encoded, header.size)),
        ),
    )


def _with_alpha(image: tf.Tensor, has_alpha: tf.Tensor) -> tf.Tensor:
    return tf.cond(has_alpha, lambda: image, lambda: _opaque(image[:, :, :3]))


def _opaque(image: tf.Tensor) -> tf.Tensor:
    return tf.concat(
        [image, tf.fill(tf.shape(image[:, :, :1]), tf.constant(_OPAQUE, tf.uint8))], axis=-1
    )


def _from_palette(encoded: tf.Tensor, header_size: tf.Tensor) -> tf.Tensor:
    indices = tf.io.decode_bmp(encoded, channels=0)[:, :, 0]  # 1 is refused
    after_header = tf.strings.substr(
        encoded, _INFO_AT + header_size, tf.constant(_PALETTE_BYTES, tf.int64)
    )
    palette = tf.reshape(image_bytes.head(after_header, _PALETTE_BYTES), (-1, _PALETTE_ENTRY))
    return tf.gather(palette[:, 2::-1], tf.cast(indices, tf.int32))
