"""The first frame of a GIF, decoded in the graph: TensorFlow's decoder unpacks all frames and shows transparency black.

Source: CompuServe, Graphics Interchange Format version 89a (1990), sections 15 to 27.
"""

from typing import NamedTuple

import tensorflow as tf

from fv.serving import image_bytes

_HEADER_BYTES = 13  # signature and logical screen descriptor
_HEADER_FLAGS_AT, _DESCRIPTOR_FLAGS_AT = 10, 9
_DESCRIPTOR_BYTES = 10  # of an image, with its separator
_EXTENSION, _IMAGE, _CONTROL = 0x21, 0x2C, 0xF9
_AT_CORNER = b"," + bytes(4)  # the beginning of a descriptor whose image is at (0, 0)
_TRAILER = b"\x3b"
_WHITE = 255
_WHITE_ENTRY = b"\xff\xff\xff"
_MOST_BLOCKS = 40_000  # of up to 255 bytes


class Frame(NamedTuple):
    """The first frame of a GIF.

    Attributes:
      encoded: scalar string, a GIF of that frame alone, with white in place of the transparent colour.
      left: int64 scalar, columns of the screen to the left of the frame.
      top: int64 scalar, rows of the screen above the frame.
      width: int64 scalar, of the screen in pixels.
      height: int64 scalar, of the screen in pixels.
    """

    encoded: tf.Tensor
    left: tf.Tensor
    top: tf.Tensor
    width: tf.Tensor
    height: tf.Tensor


def first_gif_frame(encoded: tf.Tensor) -> Frame:
    """Finds the first frame of a GIF, scalar string.

    The ops raise InvalidArgumentError where the file ends before the frame does, or the frame has more than 10 MB.
    """
    data = tf.io.decode_raw(encoded, tf.uint8)
    table = _table_bytes(data[_HEADER_FLAGS_AT])
    start, control = _after_extensions(data, _HEADER_BYTES + table)
    local_at, local = start + _DESCRIPTOR_BYTES, _table_bytes(data[start + _DESCRIPTOR_FLAGS_AT])
    end = _after_blocks(data, local_at + local + 1)
    clear = (data[control + 3] & 1 == 1) & (control > 0)
    index = tf.cast(data[control + 6], tf.int64)
    is_frame = tf.debugging.Assert((data[start] == _IMAGE) & (data[end - 1] == 0), ["no frame"])
    with tf.control_dependencies([is_frame]):
        parts = [
            _cut(encoded, 0, _HEADER_BYTES),
            _whiten(_cut(encoded, _HEADER_BYTES, table), index, clear & (local == 0)),
            _AT_CORNER,
            _cut(encoded, start + len(_AT_CORNER), _DESCRIPTOR_BYTES - len(_AT_CORNER)),
            _whiten(_cut(encoded, local_at, local), index, clear),
            _cut(encoded, local_at + local, end - local_at - local),
            _TRAILER,
        ]
        alone = tf.strings.join(parts)
    screen = [image_bytes.little_endian(data[at : at + 2]) for at in (6, 8)]
    left, top, width, height = (
        image_bytes.little_endian(data[start + at : start + at + 2]) for at in (1, 3, 5, 7)
    )
    return Frame(
        alone, left, top, tf.maximum(screen[0], left + width), tf.maximum(screen[1], top + height)
    )


def decode_gif(frame: Frame) -> tf.Tensor:
    """Decodes a frame on its screen, which is white around it; uint8 [height, width, 3].

    The ops raise InvalidArgumentError for a damaged frame.
    """
    image = tf.io.decode_gif(frame.encoded)[0]
    below, behind = (
        size - start - tf.shape(image, tf.int64)[axis]
        for axis, (size, start) in enumerate(((frame.height, frame.top), (frame.width, frame.left)))
    )
    return tf.pad(image, [[frame.top, below], [frame.left, behind], [0, 0]], constant_values=_WHITE)


def _cut(encoded: tf.Tensor, start: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
    return tf.strings.substr(encoded, tf.cast(start, tf.int64), tf.cast(length, tf.int64))


def _whiten(table: tf.Tensor, index: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Makes an entry of a colour table white where that is wanted and the table has it."""
    length = tf.strings.length(table)
    at = 3 * tf.cast(index, tf.int32)
    fits = wanted & (at + 3 <= length)
    return tf.cond(
        fits,
        lambda: tf.strings.join(
            [_cut(table, 0, at), _WHITE_ENTRY, _cut(table, at + 3, length - at - 3)]
        ),
        lambda: table,
    )


def _table_bytes(flags: tf.Tensor) -> tf.Tensor:
    """Bytes of the colour table that a descriptor's flags announce."""
    flags = tf.cast(flags, tf.int64)
    return tf.where(
        flags >= 0x80, 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), flags & 7), 0
    )


def _after_extensions(data: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The byte behind a row of extensions, and where the last one with control of the frame begins; 0 for none."""

    def skip(at, control):
        return _after_blocks(data, at + 2), tf.where(data[at + 1] == _CONTROL, at, control)

    none = tf.constant(0, tf.int64)
    return tf.while_loop(
        lambda at, control: data[at] == _EXTENSION,
        skip,
        (at, none),
        maximum_iterations=_MOST_BLOCKS,
    )


def _after_blocks(data: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """The byte after the empty block that ends a row of sub-blocks."""

    def skip(at):
        return (at + 1 + tf.cast(data[at], tf.int64),)

    return (
        tf.while_loop(lambda at: data[at] != 0, skip, (at,), maximum_iterations=_MOST_BLOCKS)[0] + 1
    )


# A BMP decoded in the graph, palettes included: TensorFlow's decoder takes palette indices for
# grey.
#
# Source: Microsoft, BITMAPINFOHEADER and BITMAPV5HEADER structures (wingdi.h).

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


def read_bmp_header(encoded: tf.Tensor) -> Header:
    """Reads the header of a BMP, scalar string."""
    head = image_bytes.head_bytes(encoded, _HEAD_BYTES)
    size, compression, *masks, alpha = (
        image_bytes.little_endian(head[at : at + 4]) for at in (14, 30, 54, 58, 62, 66)
    )
    width, height = (
        image_bytes.signed_int32(image_bytes.little_endian(head[at : at + 4])) for at in (18, 22)
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


def decode_bmp(encoded: tf.Tensor, header: Header) -> tf.Tensor:
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
    palette = tf.reshape(image_bytes.head_bytes(after_header, _PALETTE_BYTES), (-1, _PALETTE_ENTRY))
    return tf.gather(palette[:, 2::-1], tf.cast(indices, tf.int32))
