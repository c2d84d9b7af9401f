"""Formats of images as graph ops, where TensorFlow's own ops are not enough.

Reads numbers, PNG chunks and EXIF orientation without decoding. Decodes GIF, of which TensorFlow
unpacks every frame and shows transparency black, and BMP, whose palette indices it takes for grey
levels.

Arguments are scalar strings if nothing else is said. The ops of the decoders raise
InvalidArgumentError for a damaged file.

Sources: ITU-T T.81 (1992), annex B; PNG (Third Edition, 2025), 5.3 and 11.3.4.5; JEITA CP-3451
(Exif 2.3), sections 4.5 and 4.6.4; CompuServe, Graphics Interchange Format version 89a (1990),
sections 15 to 27; Microsoft, BITMAPINFOHEADER and BITMAPV5HEADER structures (wingdi.h).
"""

from typing import NamedTuple

import tensorflow as tf

UPRIGHT = 1  # EXIF orientation
_CHUNKS_AT = 8  # bytes before a PNG's first chunk
_CHUNK_BYTES = 12  # of a chunk without its data: length, name, checksum
_MARKER, _APP1, _SOS, _EOI = 0xFF, 0xE1, 0xDA, 0xD9  # of JPEG
EXIF = b"Exif\0\0"  # name of the JPEG segment
_PNG_EXIF = b"eXIf"  # name of the PNG chunk
_TIFF_AT = 4 + len(EXIF)  # bytes from a JPEG marker to the TIFF header: marker, length, name
_LITTLE_ENDIAN, _BIG_ENDIAN = b"II*\0", b"MM\0*"
_ORIENTATION_TAG = 0x0112
_TYPE_BYTES = {1: 1, 3: 2, 4: 4}  # bytes of a BYTE, SHORT and LONG
_ENTRY_BYTES = 12  # of a tag in a TIFF directory

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


def head_bytes(encoded: tf.Tensor, length: int) -> tf.Tensor:
    """Returns the first `length` bytes of a scalar string, uint8 [length], padded with zeros."""
    return tf.reshape(
        tf.io.decode_raw(tf.reshape(encoded, [1]), tf.uint8, fixed_length=length), [length]
    )


def count_marker(encoded: tf.Tensor, marker: bytes, most: int) -> tf.Tensor:
    """The most times that a string of string [n] holds a marker, up to `most`; int64 scalar."""
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
    """Whether a PNG has a chunk of a name, bool scalar, and the data of the first, uint8 [m]."""
    # A search for the name is cheaper than a walk. The name may also stand in a text.
    return tf.cond(
        any_contains(encoded[tf.newaxis], name),
        lambda: _walk_chunks(encoded, name),
        lambda: (tf.constant(False), tf.zeros([0], tf.uint8)),
    )


def _walk_chunks(encoded: tf.Tensor, name: bytes) -> tuple[tf.Tensor, tf.Tensor]:
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


def read_jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The orientation of a JPEG, int64 scalar from 1 to 8; upright without EXIF, or if damaged."""
    # Most JPEGs have none, and a search for its name is cheaper than a walk through the segments.
    return tf.cond(
        any_contains(encoded[tf.newaxis], EXIF), lambda: _walk_segments(encoded), _upright
    )


def read_png_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The orientation of a PNG, as `read_jpeg_orientation`."""
    found, exif = find_png_chunk(encoded, _PNG_EXIF)
    return tf.cond(found, lambda: _read_exif(exif), _upright)


def _upright() -> tf.Tensor:
    return tf.constant(UPRIGHT, tf.int64)


def _walk_segments(encoded: tf.Tensor) -> tf.Tensor:
    """Goes from segment to segment of a JPEG to the first with EXIF, and reads it."""
    padding = tf.zeros([_TIFF_AT], tf.uint8)  # so that the head of every segment can be read
    data = tf.concat([tf.io.decode_raw(encoded, tf.uint8), padding], axis=0)
    size = tf.size(data, tf.int64) - _TIFF_AT

    def is_exif(at):
        return starts_with(data[at + 4 : at + _TIFF_AT], EXIF) & (data[at + 1] == _APP1)

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
    tiff = exif[tf.where(starts_with(exif, EXIF), len(EXIF), 0) :]
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


class Frame(NamedTuple):
    """The first frame of a GIF: a scalar string and int64 scalars in pixels."""

    encoded: tf.Tensor  # a GIF of that frame alone, its transparent colour replaced by white
    left: tf.Tensor  # columns of the screen before the frame
    top: tf.Tensor
    width: tf.Tensor  # of the screen
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
        parts = [
            _cut(encoded, 0, _GIF_HEAD_BYTES),
            _whiten(_cut(encoded, _GIF_HEAD_BYTES, table), index, is_transparent & (local == 0)),
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
    """Decodes a frame on its screen, which is white around it, to uint8 [height, width, 3]."""
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
    """The byte behind a row of extensions, and where the last graphic control begins; 0: none."""

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
    head = head_bytes(encoded, _BMP_HEAD_BYTES)
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
    """Decodes a BMP whose header has no refusal to RGB and opacity, uint8 [height, width, 4]."""

    def decode_palette():
        indices = tf.io.decode_bmp(encoded, channels=0)[:, :, 0]  # channels=1 is refused
        palette = tf.strings.substr(
            encoded, _INFO_AT + header.size, tf.constant(_PALETTE_BYTES, tf.int64)
        )
        entries = head_bytes(palette, _PALETTE_BYTES)
        colours = tf.reshape(entries, (-1, _PALETTE_ENTRY))[:, 2::-1]
        return _make_opaque(tf.gather(colours, tf.cast(indices, tf.int32)))

    def decode_24_bits():
        return _make_opaque(tf.io.decode_bmp(encoded, channels=3))

    def decode_32_bits():
        image = tf.io.decode_bmp(encoded, channels=4)
        return tf.cond(header.has_alpha, lambda: image, lambda: _make_opaque(image[:, :, :3]))

    is_kind = tf.cast(header.bits == tf.constant(_BITS, tf.int64), tf.int32)
    kind = tf.argmax(is_kind, output_type=tf.int32)
    return tf.switch_case(kind, [decode_palette, decode_24_bits, decode_32_bits])


def _make_opaque(image: tf.Tensor) -> tf.Tensor:
    opacity = tf.fill(tf.shape(image[:, :, :1]), tf.constant(_OPAQUE, tf.uint8))
    return tf.concat([image, opacity], axis=-1)


def _signed(number: tf.Tensor) -> tf.Tensor:
    """The 32-bit two's complement number whose unsigned reading is `number`."""
    return tf.where(number < 1 << 31, number, number - (1 << 32))
