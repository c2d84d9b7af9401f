"""One encoded image → the network's input, in the graph: its kind and size are read from the header before it is decoded.

What an image is refused for is a value, not an error, so that the caller can say which image of a batch it was. Damage
that only the decoder finds is an error of its op.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from fv import preprocess
from fv.conversion import jpeg
from fv.preprocessing import Preprocessing
from fv.serving import gif_bmp, image_bytes

_HEAD_BYTES = 32
PNG, GIF = b"\x89PNG\r\n\x1a\n", b"GIF8"
_MAGICS = (jpeg.START, PNG, b"BM", GIF)  # in the order of the branches below
_OPAQUE = 255
_RGBA = 4
_PNG_SIZE_AT, _PNG_COLOURS_AT = 16, 25
_PNG_ALPHA = 4  # bit of the kind of colours
_PNG_TRANSPARENCY = b"tRNS"  # name of its chunk
_SCAN = b"\xff\xda"  # the marker before a JPEG's scan
_PLAIN_INK = (
    "is a CMYK JPEG without Adobe's segment, whose ink decoders read in two ways: save it as RGB"
)
_MOST_SCANS = 100  # decoding takes time in proportion; encoders write ten

Loaded = tuple[tf.Tensor, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Rules:
    """What images may be and become.

    Attributes:
      image_size: side of the network's input in pixels.
      crop_fraction: side of the centre square that is kept, over the shorter side, in (0, 1].
      max_pixels: most pixels an image may have, by its header.
      preprocessing: what the converter did to the training images, which is done to every image first; None for nothing.
    """

    image_size: int
    crop_fraction: float
    max_pixels: int
    preprocessing: Preprocessing | None = None


def load_image(encoded: tf.Tensor, rules: Rules) -> Loaded:
    """Decodes a JPEG, PNG, BMP or the first frame of a GIF, turns it upright, crops and resizes it.

    Args:
      encoded: scalar string, the bytes of an image.
      rules: limits and sizes.

    Returns:
      uint8 [image_size, image_size, 3], RGB, and a string, empty, or else the reason why the pixels are all zero, to be
      read behind the image's name.

    The ops raise InvalidArgumentError for a damaged image.
    """
    head = image_bytes.head_bytes(encoded, _HEAD_BYTES)
    is_kind = [
        tf.reduce_all(head[: len(magic)] == tf.constant(tuple(magic), tf.uint8))
        for magic in _MAGICS
    ]
    known = tf.reduce_any(is_kind)
    kind = tf.where(
        known, tf.argmax(tf.cast(is_kind, tf.int32), output_type=tf.int32), len(_MAGICS)
    )
    loaders = [_load_jpeg, _load_png, _load_bmp, _load_gif, _refuse]
    return tf.switch_case(kind, [_bound(loader, encoded, head, rules) for loader in loaders])


def has_few_scans(encoded: tf.Tensor) -> tf.Tensor:
    """Whether JPEGs, string [n], have at most 100 scans each, bool scalar.

    A scan costs a pass over all pixels of its image, and an empty one has twelve bytes.
    """
    return image_bytes.most_occurrences(encoded, _SCAN, _MOST_SCANS + 1) <= _MOST_SCANS


def _bound(loader: Callable[..., Loaded], *arguments) -> Callable[[], Loaded]:
    return lambda: loader(*arguments)


def _refuse(encoded: tf.Tensor, head: tf.Tensor, rules: Rules) -> Loaded:
    del head
    unknown = "is no JPEG, PNG, BMP or GIF: its first bytes are those of none"
    return _nothing(rules), tf.where(encoded == "", "is empty", unknown)


def _load_jpeg(encoded: tf.Tensor, head: tf.Tensor, rules: Rules) -> Loaded:
    del head
    shape = tf.io.extract_jpeg_shape(encoded)
    complaint = _size_complaint(tf.cast(shape[1], tf.int64), tf.cast(shape[0], tf.int64), rules)
    is_ink = (shape[2] == jpeg.CMYK) & (
        image_bytes.most_occurrences(encoded[tf.newaxis], jpeg.ADOBE, 1) == 0
    )
    complaint = tf.where(is_ink, _PLAIN_INK, complaint)
    complaint = tf.where(
        has_few_scans(encoded[tf.newaxis]), complaint, f"has more than {_MOST_SCANS} scans"
    )
    return _unless(complaint, lambda: _decode_jpeg(encoded, shape, rules), rules)


def _decode_jpeg(encoded: tf.Tensor, shape: tf.Tensor, rules: Rules) -> tf.Tensor:
    turned = image_bytes.read_jpeg_orientation(encoded)

    def decode_whole():
        image = tf.io.decode_jpeg(encoded, channels=preprocess.CHANNELS, dct_method=preprocess.DCT)
        return _to_input(image_bytes.apply_orientation(image, turned), rules)

    return tf.cond(
        turned == image_bytes.UPRIGHT,
        lambda: preprocess.load_jpeg(
            encoded, rules.image_size, rules.crop_fraction, rules.preprocessing
        ),
        decode_whole,
    )


def _load_png(encoded: tf.Tensor, head: tf.Tensor, rules: Rules) -> Loaded:
    width, height = (
        image_bytes.big_endian(head[at : at + 4]) for at in (_PNG_SIZE_AT, _PNG_SIZE_AT + 4)
    )

    def has_transparency():
        return image_bytes.find_chunk(tf.io.decode_raw(encoded, tf.uint8), _PNG_TRANSPARENCY)[0]

    def decode():
        named = (
            image_bytes.most_occurrences(encoded[tf.newaxis], _PNG_TRANSPARENCY, 1) > 0
        )  # perhaps in a text
        keyed = tf.cond(named, has_transparency, lambda: False)
        opaque = (head[_PNG_COLOURS_AT] & _PNG_ALPHA == 0) & ~keyed
        # Four channels of an opaque image of less than 8 bits would have the wrong opacity.
        image = tf.cond(
            opaque,
            lambda: tf.io.decode_png(encoded, channels=3),
            lambda: _on_white(_decode_rgba(encoded)),
        )
        return _to_input(
            image_bytes.apply_orientation(image, image_bytes.read_png_orientation(encoded)), rules
        )

    return _unless(_size_complaint(width, height, rules), decode, rules)


def _decode_rgba(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_png(encoded, channels=_RGBA)


def _load_bmp(encoded: tf.Tensor, head: tf.Tensor, rules: Rules) -> Loaded:
    del head
    header = gif_bmp.read_bmp_header(encoded)
    complaint = tf.where(
        header.complaint == "",
        _size_complaint(header.width, header.height, rules),
        header.complaint,
    )
    return _unless(
        complaint, lambda: _to_input(_on_white(gif_bmp.decode_bmp(encoded, header)), rules), rules
    )


def _load_gif(encoded: tf.Tensor, head: tf.Tensor, rules: Rules) -> Loaded:
    del head
    frame = gif_bmp.first_gif_frame(encoded)
    complaint = _size_complaint(frame.width, frame.height, rules)
    return _unless(complaint, lambda: _to_input(gif_bmp.decode_gif(frame), rules), rules)


def _to_input(image: tf.Tensor, rules: Rules) -> tf.Tensor:
    return preprocess.to_input(image, rules.image_size, rules.crop_fraction, rules.preprocessing)


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """Lays uint8 [height, width, 4], RGB and opacity, on white: uint8 [height, width, 3]."""
    colours, opacity = image[:, :, : preprocess.CHANNELS], image[:, :, preprocess.CHANNELS :]

    def blend():
        share = tf.cast(opacity, tf.uint16)  # products stay below 2^16
        mixed = tf.cast(colours, tf.uint16) * share + _OPAQUE * (_OPAQUE - share) + _OPAQUE // 2
        return tf.cast(mixed // _OPAQUE, tf.uint8)

    return tf.cond(tf.reduce_all(opacity == _OPAQUE), lambda: colours, blend)


def _size_complaint(width: tf.Tensor, height: tf.Tensor, rules: Rules) -> tf.Tensor:
    size = tf.strings.join(
        ["has ", tf.strings.as_string(width), " x ", tf.strings.as_string(height), " pixels"]
    )
    too_large = tf.strings.join(
        [size, f", more than the {rules.max_pixels / 1e6:g} million that this model takes"]
    )
    fits = (width > 0) & (height > 0)
    return tf.where(fits, tf.where(width * height > rules.max_pixels, too_large, ""), size)


def _unless(complaint: tf.Tensor, decode: Callable[[], tf.Tensor], rules: Rules) -> Loaded:
    return tf.cond(complaint == "", decode, lambda: _nothing(rules)), complaint


def _nothing(rules: Rules) -> tf.Tensor:
    return tf.zeros((rules.image_size, rules.image_size, preprocess.CHANNELS), tf.uint8)


# A batch of encoded images → the network's input; a bad one is named by its place in the batch.
#
# A data set is the one thing in a graph that goes on after an op's error, so the decoders run in
# one. To start it takes time:
# plain JPEGs, which nearly all images are, go through it as one element, and image by image only
# where that fails.

DECODES_AT_ONCE = 8  # of a batch; bounds the memory of whole images
_NOT_INLINED = {
    "_noinline": True
}  # else the ops of the longer way cost 0.3 ms an image though they do not run
_DAMAGED = "is no whole JPEG, PNG, BMP or GIF: it is damaged, cut short, or of a kind that libjpeg and libpng do not know"


def batch_loader(rules: Rules) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A function of a batch of encoded images and their names, for use in a graph.

    Args:
      rules: limits and sizes.

    Returns:
      A function (encoded: string [batch], names: string [batch]) → uint8 [batch, image_size, image_size, 3]. Its ops raise
      InvalidArgumentError, with the name of the first bad image and what is wrong with it.
    """
    strings = tf.TensorSpec([None], tf.string)

    @tf.function(
        input_signature=[strings, strings], experimental_attributes=_NOT_INLINED, autograph=False
    )
    def load_any(encoded, names):
        return _load_any(encoded, names, rules)

    def load(encoded, names):
        is_jpeg = tf.reduce_all(tf.strings.substr(encoded, 0, len(jpeg.START)) == jpeg.START)
        plain = is_jpeg & ~image_bytes.any_has_exif(encoded) & has_few_scans(encoded)
        pixels = tf.cond(
            plain, lambda: _load_plain(encoded, rules), lambda: _images_nothing(rules)[:0]
        )
        whole = tf.shape(pixels)[0] == tf.size(
            encoded
        )  # else the longer way finds out what is wrong with which
        return tf.cond(whole, lambda: pixels, lambda: load_any(encoded, names))

    return load


def _load_plain(encoded: tf.Tensor, rules: Rules) -> tf.Tensor:
    """Pixels of plain JPEGs if all are whole and within the limit; else of none."""
    spec = tf.TensorSpec(_images_nothing(rules).shape[1:], tf.uint8)

    def load_all(batch):
        return tf.map_fn(
            lambda image: _load_ordinary(image, rules), batch, fn_output_signature=spec
        )

    loaded = tf.data.Dataset.from_tensors(encoded).map(load_all).ignore_errors()
    return (
        loaded.concatenate(tf.data.Dataset.from_tensors(_images_nothing(rules)[:0]))
        .take(1)
        .get_single_element()
    )


def _load_ordinary(encoded: tf.Tensor, rules: Rules) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(encoded)
    fits = tf.cast(shape[0], tf.int64) * tf.cast(shape[1], tf.int64) <= rules.max_pixels
    fits &= shape[2] <= preprocess.CHANNELS  # the longer way looks at CMYK
    refused = tf.raw_ops.Assert(condition=fits, data=["large"])  # tf.debugging's has a branch more
    with tf.control_dependencies([refused]):
        return preprocess.load_jpeg(
            tf.identity(encoded), rules.image_size, rules.crop_fraction, rules.preprocessing
        )


def _load_any(encoded: tf.Tensor, names: tf.Tensor, rules: Rules) -> tf.Tensor:
    count = tf.size(encoded, tf.int64)
    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    loaded = rows.map(
        lambda index, image: (index, *_load_one(image, rules)), DECODES_AT_ONCE, deterministic=True
    )
    last = tf.data.Dataset.from_tensors(
        (count, "", _images_nothing(rules)[0])
    )  # so that there is a batch, be it of this alone
    good, complaints, pixels = (
        loaded.ignore_errors().concatenate(last).batch(count + 1).get_single_element()
    )
    complaints = tf.tensor_scatter_nd_update(
        tf.fill([count + 1], _DAMAGED), good[:, tf.newaxis], complaints
    )[:count]
    bad = tf.where(complaints != "")[:1, 0]
    message = tf.strings.join([tf.gather(names, bad), tf.gather(complaints, bad)], " ")
    with tf.control_dependencies([tf.debugging.Assert(tf.size(bad) == 0, [message])]):
        return pixels[:-1]


def _load_one(image: tf.Tensor, rules: Rules) -> tuple[tf.Tensor, tf.Tensor]:
    pixels, complaint = load_image(image, rules)
    return complaint, tf.ensure_shape(pixels, _images_nothing(rules).shape[1:])


def _images_nothing(rules: Rules) -> tf.Tensor:
    return tf.zeros((1, rules.image_size, rules.image_size, preprocess.CHANNELS), tf.uint8)
