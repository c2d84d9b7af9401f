"""Decodes GIF and BMP as graph ops, where TensorFlow's own decoders are not enough.

TensorFlow unpacks every frame of a GIF and shows transparency black. It takes the palette indices
of a BMP for grey levels.

Sources: CompuServe, Graphics Interchange Format version 89a (1990), sections 15 to 27; Microsoft,
BITMAPINFOHEADER and BITMAPV5HEADER structures (wingdi.h).
"""

from typing import NamedTuple

import tensorflow as tf

from fv.serving import image_bytes
from fv.serving.image_bytes import little_endian

_GIF_HEAD_BYTES = 13  # signature and logical screen descriptor
_GIF_FLAGS_AT = 10
_DESCRIPTOR_BYTES, _DESCRIPTOR_FLAGS_AT = 10, 9  # of a frame, with its separator
_EXTENSION, _FRAME, _CONTROL = 0x21, 0x2C, 0xF9
_AT_CORNER = b"," + bytes(4)  # beginning of the descriptor of a frame at (0, 0)
_TRAILER = b"\x3b"
_WHITE, _WHITE_ENTRY = 255, b"\xff\xff\xff"
_MOST_BLOCKS = 40_000  # of up to 255 bytes each

_BMP_HEAD_BYTES = 70
_INFO_AT = 14  # the bitmap header stands behind the file header
_SMALLEST_HEADER = 40
_BITS = (8, 24, 32)  # of a pixel
_UNCOMPRESSED, _MASKS = 0, 3
_STANDARD_MASKS = (0xFF0000, 0xFF00, 0xFF)  # blue first in the file, as without masks
_ALPHA_MASK, _ALPHA_HEADER = 0xFF000000, 56  # the smallest header with an alpha mask
_PALETTE_ENTRY = 4  # bytes: blue, green, red, unused
_PALETTE_BYTES = 256 * _PALETTE_ENTRY
_OPAQUE = 255


class Frame(NamedTuple):
    """The first frame of a GIF.

    Attributes:
      encoded: scalar string, a GIF of that frame alone, its transparent colour replaced by white.
      left, top: int64 scalars, columns and rows of the screen before the frame.
      width, height: int64 scalars, size of the screen in pixels.
    """

    encoded: tf.Tensor
    left: tf.Tensor
    top: tf.Tensor
    width: tf.Tensor
    height: tf.Tensor


def first_gif_frame(encoded: tf.Tensor) -> Frame:
    """Finds the first frame of a GIF, scalar string.

    The ops raise InvalidArgumentError if the file ends inside the frame, or the frame has more
    than 10 MB.
    """
    data = tf.io.decode_raw(encoded, tf.uint8)
    table = _table_bytes(data[_GIF_FLAGS_AT])
    start, control = _skip_extensions(data, _GIF_HEAD_BYTES + table)
    local_at, local = start + _DESCRIPTOR_BYTES, _table_bytes(data[start + _DESCRIPTOR_FLAGS_AT])
    end = _skip_blocks(data, local_at + local + 1)
    is_transparent = (data[control + 3] & 1 == 1) & (control > 0)
    index = tf.cast(data[control + 6], tf.int64)
    is_frame = tf.debugging.Assert((data[start] == _FRAME) & (data[end - 1] == 0), ["no frame"])
    with tf.control_dependencies([is_frame]):
        table_bytes = _cut(encoded, _GIF_HEAD_BYTES, table)
        parts = [
            _cut(encoded, 0, _GIF_HEAD_BYTES),
            _whiten(table_bytes, index, is_transparent & (local == 0)),
            _AT_CORNER,
            _cut(encoded, start + len(_AT_CORNER), _DESCRIPTOR_BYTES - len(_AT_CORNER)),
            _whiten(_cut(encoded, local_at, local), index, is_transparent),
            _cut(encoded, local_at + local, end - local_at - local),
            _TRAILER,
        ]
        alone = tf.strings.join(parts)
    screen = [little_endian(data[at : at + 2]) for at in (6, 8)]
    left, top, width, height = (
        little_endian(data[start + at : start + at + 2]) for at in (1, 3, 5, 7)
    )
    return Frame(
        alone, left, top, tf.maximum(screen[0], left + width), tf.maximum(screen[1], top + height)
    )


def decode_gif(frame: Frame) -> tf.Tensor:
    """Decodes a frame on its screen, which is white around it; uint8 [height, width, 3].

    The ops raise InvalidArgumentError for a damaged frame.
    """
    image = tf.io.decode_gif(frame.encoded)[0]
    height, width = (tf.shape(image, tf.int64)[axis] for axis in (0, 1))
    rows = [frame.top, frame.height - frame.top - height]
    columns = [frame.left, frame.width - frame.left - width]
    return tf.pad(image, [rows, columns, [0, 0]], constant_values=_WHITE)


def _table_bytes(flags: tf.Tensor) -> tf.Tensor:
    """Bytes of the colour table that the flags of a descriptor announce."""
    flags = tf.cast(flags, tf.int64)
    size = 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), flags & 7)
    return tf.where(flags >= 0x80, size, 0)


def _skip_extensions(data: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Skips a row of extensions.

    Returns:
      The byte behind them, and where the last graphic control extension begins; 0 for none.
    """

    def skip(at, control):
        return _skip_blocks(data, at + 2), tf.where(data[at + 1] == _CONTROL, at, control)

    return tf.while_loop(
        lambda at, control: data[at] == _EXTENSION,
        skip,
        (at, tf.constant(0, tf.int64)),
        maximum_iterations=_MOST_BLOCKS,
    )


def _skip_blocks(data: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """The byte behind the empty block that ends a row of sub-blocks."""
    (at,) = tf.while_loop(
        lambda at: data[at] != 0,
        lambda at: (at + 1 + tf.cast(data[at], tf.int64),),
        (at,),
        maximum_iterations=_MOST_BLOCKS,
    )
    return at + 1


def _cut(encoded: tf.Tensor, start: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
    return tf.strings.substr(encoded, tf.cast(start, tf.int64), tf.cast(length, tf.int64))


def _whiten(table: tf.Tensor, index: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Makes an entry of a colour table white, if that is wanted and the table has the entry."""
    length = tf.strings.length(table)
    at = 3 * tf.cast(index, tf.int32)

    def replace():
        behind = _cut(table, at + 3, length - at - 3)
        return tf.strings.join([_cut(table, 0, at), _WHITE_ENTRY, behind])

    return tf.cond(wanted & (at + 3 <= length), replace, lambda: table)


class BmpHeader(NamedTuple):
    """The header of a BMP: int64 scalars, and why the file is refused: a string, empty if not."""

    width: tf.Tensor
    height: tf.Tensor
    bits: tf.Tensor
    size: tf.Tensor
    has_alpha: tf.Tensor
    refusal: tf.Tensor


def read_bmp_header(encoded: tf.Tensor) -> BmpHeader:
    """Reads the header of a BMP, scalar string."""
    head = image_bytes.head_bytes(encoded, _BMP_HEAD_BYTES)
    size, compression, *masks, alpha = (
        little_endian(head[at : at + 4]) for at in (14, 30, 54, 58, 62, 66)
    )
    width, height = (_signed(little_endian(head[at : at + 4])) for at in (18, 22))
    bits = little_endian(head[28:30])
    are_standard = [mask == wanted for mask, wanted in zip(masks, _STANDARD_MASKS, strict=True)]
    is_masked = (compression == _MASKS) & (bits == 32)
    is_plain = (compression == _UNCOMPRESSED) | (is_masked & tf.reduce_all(are_standard))
    is_known = tf.reduce_any(bits == tf.constant(_BITS, tf.int64)) & (size >= _SMALLEST_HEADER)
    refusal = tf.where(is_plain, "", "is a compressed BMP, which this model does not take")
    other = "is a BMP of a kind that this model does not take: save it with 8, 24 or 32 bits"
    refusal = tf.where(is_known, refusal, other)
    has_alpha = is_masked & (size >= _ALPHA_HEADER) & (alpha == _ALPHA_MASK)
    return BmpHeader(width, tf.abs(height), bits, size, has_alpha, refusal)


def decode_bmp(encoded: tf.Tensor, header: BmpHeader) -> tf.Tensor:
    """Decodes a BMP whose header has no refusal; uint8 [height, width, 4], RGB and opacity.

    The ops raise InvalidArgumentError for a damaged file.
    """

    def decode_32_bits():
        image = tf.io.decode_bmp(encoded, channels=4)
        return tf.cond(header.has_alpha, lambda: image, lambda: _make_opaque(image[:, :, :3]))

    def decode_palette():
        indices = tf.io.decode_bmp(encoded, channels=0)[:, :, 0]  # channels=1 is refused
        palette = tf.strings.substr(
            encoded, _INFO_AT + header.size, tf.constant(_PALETTE_BYTES, tf.int64)
        )
        entries = image_bytes.head_bytes(palette, _PALETTE_BYTES)
        colours = tf.reshape(entries, (-1, _PALETTE_ENTRY))[:, 2::-1]
        return _make_opaque(tf.gather(colours, tf.cast(indices, tf.int32)))

    return tf.cond(
        header.bits == 32,
        decode_32_bits,
        lambda: tf.cond(
            header.bits == 24,
            lambda: _make_opaque(tf.io.decode_bmp(encoded, channels=3)),
            decode_palette,
        ),
    )


def _make_opaque(image: tf.Tensor) -> tf.Tensor:
    opacity = tf.fill(tf.shape(image[:, :, :1]), tf.constant(_OPAQUE, tf.uint8))
    return tf.concat([image, opacity], axis=-1)


def _signed(number: tf.Tensor) -> tf.Tensor:
    """The 32-bit two's complement number whose unsigned reading is `number`."""
    return tf.where(number < 1 << 31, number, number - (1 << 32))
