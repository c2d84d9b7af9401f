"""A GIF cut down to its first frame, in the graph: TensorFlow's decoder would unpack every frame of it into memory.

Source: CompuServe, Graphics Interchange Format version 89a (1990), sections 15 to 27.
"""

import tensorflow as tf

from fv.serving import image_bytes

_HEADER_BYTES = 13  # signature and logical screen descriptor
_HEADER_FLAGS_AT, _DESCRIPTOR_FLAGS_AT = 10, 9
_DESCRIPTOR_BYTES = 10  # of an image, with its separator
_EXTENSION, _IMAGE = 0x21, 0x2C
_TRAILER = b"\x3b"
_MOST_BLOCKS = 40_000  # of up to 255 bytes


def first_frame(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Cuts a GIF behind its first frame.

    Args:
      encoded: scalar string, the bytes of a GIF.

    Returns:
      The GIF of that frame alone, and its width and height, int64 scalars.

    The ops raise InvalidArgumentError where the file ends before the frame does, or the frame has more than 10 MB.
    """
    data = tf.io.decode_raw(encoded, tf.uint8)
    start = _after_extensions(data, _HEADER_BYTES + _table_bytes(data[_HEADER_FLAGS_AT]))
    code_size = start + _DESCRIPTOR_BYTES + _table_bytes(data[start + _DESCRIPTOR_FLAGS_AT])
    end = _after_blocks(data, code_size + 1)
    with tf.control_dependencies([tf.debugging.Assert((data[start] == _IMAGE) & (data[end - 1] == 0), ["no frame"])]):
        alone = tf.strings.join([tf.strings.substr(encoded, tf.constant(0, tf.int64), end), _TRAILER])
    width, height = (image_bytes.little_endian(data[start + at : start + at + 2]) for at in (5, 7))
    return alone, width, height


def _table_bytes(flags: tf.Tensor) -> tf.Tensor:
    """Bytes of the colour table that a descriptor's flags announce."""
    flags = tf.cast(flags, tf.int64)
    return tf.where(flags >= 0x80, 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), flags & 7), 0)


def _after_extensions(data: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    def skip(at):
        return (_after_blocks(data, at + 2),)

    return tf.while_loop(lambda at: data[at] == _EXTENSION, skip, (at,), maximum_iterations=_MOST_BLOCKS)[0]


def _after_blocks(data: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """The byte after the empty block that ends a row of sub-blocks."""

    def skip(at):
        return (at + 1 + tf.cast(data[at], tf.int64),)

    return tf.while_loop(lambda at: data[at] != 0, skip, (at,), maximum_iterations=_MOST_BLOCKS)[0] + 1
