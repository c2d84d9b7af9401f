"""Decodes batches of image files to the network's input, as ops of the exported graph.

A batch of plain JPEGs is decoded at once. In any other batch each image is decoded by its format,
turned upright, cropped and resized. The error for a bad image names its place in the batch.
"""

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from fv import image_ops
from fv.conversion import image_files
from fv.preprocessing import Preprocessing
from fv.serving import format_ops
from fv.serving.contract import BMP, GIF, JPEG, MOST_SCANS, PNG, SCAN, TOO_MANY_SCANS, UNKNOWN

_HEAD_BYTES = 32
_PNG_SIZE_AT, _PNG_COLOURS_AT = 16, 25
_PNG_ALPHA = 4  # bit of the colour type
_PNG_TRANSPARENCY = b"tRNS"  # name of the chunk
_OPAQUE = 255
_DECODED_AT_ONCE = 8  # images; bounds the memory of whole images
_DAMAGED = (
    "is no whole JPEG, PNG, BMP or GIF: it is damaged, cut short, or of a kind that libjpeg and "
    "libpng do not know"
)
_NO_POINTS = "has points that are no face's: give five different points, each x and y in pixels"
_SMALLEST_SPREAD = 1e-6  # square pixels
# Otherwise the ops of `load_each` cost 0.3 ms an image even if they do not run.
_NOT_INLINED = {"_noinline": True}

Loaded = tuple[tf.Tensor, tf.Tensor]  # pixels, and why they are refused: a string, empty if not


@dataclasses.dataclass(frozen=True)
class DecodingRules:
    """Which images are decoded, and what they become.

    Attributes:
      image_size: side of the network's input in pixels.
      crop_fraction: side of the centre square that is kept, over the shorter side, in (0, 1].
      max_pixels: the most pixels an image may have according to its header.
      preprocessing: the converter's steps on the training images, repeated first; None for none.
      points: of the face of one image, float32 [5, 2], in the graph; None for a crop.
    """

    image_size: int
    crop_fraction: float
    max_pixels: int
    preprocessing: Preprocessing | None = None
    points: tf.Tensor | None = None

    @property
    def aligns(self) -> bool:
        """Whether the model was trained on aligned faces."""
        return self.preprocessing is not None and self.preprocessing.alignment is not None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of the network's input without the batch."""
        return self.image_size, self.image_size, image_ops.CHANNELS


def batch_loader(rules: DecodingRules, *, aligned: bool = False) -> Callable[..., tf.Tensor]:
    """Returns a function that decodes a batch of images in a graph.

    Args:
      rules: what is decoded.
      aligned: whether each image comes with the points of a face, which is aligned.

    Returns:
      A function (encoded: string [batch], names: string [batch]) → uint8 [batch, image_size,
      image_size, 3]; if `aligned`, its third argument are points, float32 [batch, 5, 2]. Its ops
      raise InvalidArgumentError with the name of the first bad image and the reason.
    """
    specs = [tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.string)]
    if aligned:
        specs.append(tf.TensorSpec([None, 5, 2], tf.float32))

    @tf.function(input_signature=specs, experimental_attributes=_NOT_INLINED, autograph=False)
    def load_each(encoded, names, points=None):
        return _load_each(encoded, names, rules, points)

    def load(encoded, names):
        is_jpeg = tf.reduce_all(tf.strings.substr(encoded, 0, len(JPEG)) == JPEG)
        has_exif = format_ops.any_contains(encoded, format_ops.EXIF)
        plain = is_jpeg & ~has_exif & _have_few_scans(encoded)
        pixels = tf.cond(plain, lambda: _load_plain_jpegs(encoded, rules), lambda: _no_image(rules))
        # No pixels for a batch of images: one is not plain, and `load_each` finds out which.
        complete = tf.shape(pixels)[0] == tf.size(encoded)
        return tf.cond(complete, lambda: pixels, lambda: load_each(encoded, names))

    # A Python function: a tf.function that is an attribute is saved even if nothing calls it.
    return (lambda *given: load_each(*given)) if aligned else load


# In a graph only a tf.data pipeline continues after the error of an op, so the decoders run in
# one. Starting it takes time, so plain JPEGs go through it as a single element.


def _load_plain_jpegs(encoded: tf.Tensor, rules: DecodingRules) -> tf.Tensor:
    """Decodes upright RGB or grey JPEGs; no pixels at all if one is damaged or too large."""

    def load_one(image):
        shape = tf.io.extract_jpeg_shape(image)
        fits = tf.cast(shape[0], tf.int64) * tf.cast(shape[1], tf.int64) <= rules.max_pixels
        fits &= shape[2] <= image_ops.CHANNELS  # `_check_and_decode_jpeg` looks at CMYK
        # The raw op: tf.debugging.Assert adds a branch.
        with tf.control_dependencies([tf.raw_ops.Assert(condition=fits, data=["large"])]):
            return _jpeg_to_input(tf.identity(image), rules)

    def load_all(batch):
        spec = tf.TensorSpec(rules.input_shape, tf.uint8)
        return tf.map_fn(load_one, batch, fn_output_signature=spec)

    loaded = tf.data.Dataset.from_tensors(encoded).map(load_all).ignore_errors()
    nothing = tf.data.Dataset.from_tensors(_no_image(rules))
    return loaded.concatenate(nothing).take(1).get_single_element()


def _load_each(
    encoded: tf.Tensor, names: tf.Tensor, rules: DecodingRules, points: tf.Tensor | None = None
) -> tf.Tensor:
    """Decodes images of any format; raises InvalidArgumentError for the first bad one."""
    count = tf.size(encoded, tf.int64)

    def load_one(index, image, *points):
        own_rules = dataclasses.replace(rules, points=points[0]) if points else rules
        pixels, refusal = _check_and_decode(image, own_rules)
        return index, refusal, tf.ensure_shape(pixels, rules.input_shape)

    each = (tf.range(count), encoded) if points is None else (tf.range(count), encoded, points)
    rows = tf.data.Dataset.from_tensor_slices(each)
    loaded = rows.map(load_one, _DECODED_AT_ONCE, deterministic=True).ignore_errors()
    # One element more, so that there is a batch even if every image is damaged.
    last = tf.data.Dataset.from_tensors((count, "", _blank(rules)))
    decoded, refusals, pixels = loaded.concatenate(last).batch(count + 1).get_single_element()
    # Images whose decoder failed are missing in `decoded`.
    reasons = tf.tensor_scatter_nd_update(
        tf.fill([count + 1], _DAMAGED), decoded[:, tf.newaxis], refusals
    )[:count]
    bad = tf.where(reasons != "")[:1, 0]
    message = tf.strings.join([tf.gather(names, bad), tf.gather(reasons, bad)], " ")
    with tf.control_dependencies([tf.debugging.Assert(tf.size(bad) == 0, [message])]):
        return pixels[:-1]


def _check_and_decode(encoded: tf.Tensor, rules: DecodingRules) -> Loaded:
    """Decodes one image by its format.

    A refusal is a value, so that the caller can name the image. The ops raise
    InvalidArgumentError for damage that only the decoder finds.
    """
    head = format_ops.head_bytes(encoded, _HEAD_BYTES)
    loaders = {
        JPEG: _check_and_decode_jpeg,
        PNG: _check_and_decode_png,
        BMP: _check_and_decode_bmp,
        GIF: _check_and_decode_gif,
    }
    is_format = [
        tf.reduce_all(head[: len(magic)] == tf.constant(tuple(magic), tf.uint8))
        for magic in loaders
    ]
    index = tf.argmax(tf.cast(is_format, tf.int32), output_type=tf.int32)
    index = tf.where(tf.reduce_any(is_format), index, len(loaders))
    branches = (*loaders.values(), _refuse_unknown)
    return tf.switch_case(index, [functools.partial(load, encoded, rules) for load in branches])


def _check_and_decode_jpeg(encoded: tf.Tensor, rules: DecodingRules) -> Loaded:
    shape = tf.io.extract_jpeg_shape(encoded)
    refusal = _refuse_size(shape[1], shape[0], rules)
    has_adobe = format_ops.any_contains(encoded[tf.newaxis], image_files.ADOBE)
    ambiguous = (
        "is a CMYK JPEG without Adobe's segment, whose ink decoders read in two ways: save it as "
        "RGB"
    )
    refusal = tf.where((shape[2] == image_files.CMYK) & ~has_adobe, ambiguous, refusal)
    few = _have_few_scans(encoded[tf.newaxis])
    refusal = tf.where(few, refusal, TOO_MANY_SCANS)

    def decode():
        orientation = format_ops.read_jpeg_orientation(encoded)

        def decode_and_turn():  # also of an upright image whose face is aligned
            image = tf.io.decode_jpeg(
                encoded, channels=image_ops.CHANNELS, dct_method=image_ops.DCT
            )
            return _to_input(_apply_orientation(image, orientation), rules)

        if rules.points is not None:
            return decode_and_turn()
        is_upright = orientation == format_ops.UPRIGHT
        return tf.cond(is_upright, lambda: _jpeg_to_input(encoded, rules), decode_and_turn)

    return _decode_unless(refusal, decode, rules)


def _check_and_decode_png(encoded: tf.Tensor, rules: DecodingRules) -> Loaded:
    head = format_ops.head_bytes(encoded, _HEAD_BYTES)
    width, height = (
        format_ops.big_endian(head[at : at + 4]) for at in (_PNG_SIZE_AT, _PNG_SIZE_AT + 4)
    )

    def decode():
        has_key, _ = format_ops.find_png_chunk(encoded, _PNG_TRANSPARENCY)
        opaque = (head[_PNG_COLOURS_AT] & _PNG_ALPHA == 0) & ~has_key
        # Four channels of an opaque image of less than 8 bits would have the wrong opacity.
        image = tf.cond(
            opaque,
            lambda: tf.io.decode_png(encoded, channels=3),
            lambda: _lay_on_white(tf.io.decode_png(encoded, channels=4)),
        )
        orientation = format_ops.read_png_orientation(encoded)
        return _to_input(_apply_orientation(image, orientation), rules)

    return _decode_unless(_refuse_size(width, height, rules), decode, rules)


def _check_and_decode_bmp(encoded: tf.Tensor, rules: DecodingRules) -> Loaded:
    header = format_ops.read_bmp_header(encoded)
    of_size = _refuse_size(header.width, header.height, rules)
    refusal = tf.where(header.refusal == "", of_size, header.refusal)

    def decode():
        return _to_input(_lay_on_white(format_ops.decode_bmp(encoded, header)), rules)

    return _decode_unless(refusal, decode, rules)


def _check_and_decode_gif(encoded: tf.Tensor, rules: DecodingRules) -> Loaded:
    frame = format_ops.first_gif_frame(encoded)
    refusal = _refuse_size(frame.width, frame.height, rules)
    return _decode_unless(refusal, lambda: _to_input(format_ops.decode_gif(frame), rules), rules)


def _refuse_unknown(encoded: tf.Tensor, rules: DecodingRules) -> Loaded:
    return _blank(rules), tf.where(encoded == "", "is empty", UNKNOWN)


def _refuse_size(width: tf.Tensor, height: tf.Tensor, rules: DecodingRules) -> tf.Tensor:
    """Why an image of a size is refused; empty if it is not."""
    width, height = tf.cast(width, tf.int64), tf.cast(height, tf.int64)
    size = tf.strings.join(
        ["has ", tf.strings.as_string(width), " x ", tf.strings.as_string(height), " pixels"]
    )
    limit = f", more than the {rules.max_pixels / 1e6:g} million that this model takes"
    too_large = tf.where(width * height > rules.max_pixels, tf.strings.join([size, limit]), "")
    return tf.where((width > 0) & (height > 0), too_large, size)


def _have_few_scans(encoded: tf.Tensor) -> tf.Tensor:
    """Whether JPEGs, string [n], have at most 100 scans each, bool scalar.

    A scan costs a pass over all pixels of its image, and an empty one has twelve bytes.
    """
    return format_ops.count_marker(encoded, SCAN, MOST_SCANS + 1) <= MOST_SCANS


def _decode_unless(
    refusal: tf.Tensor, decode: Callable[[], tf.Tensor], rules: DecodingRules
) -> Loaded:
    if rules.points is not None:
        spread = tf.reduce_sum(tf.math.reduce_variance(rules.points, axis=0))
        is_face = tf.reduce_all(tf.math.is_finite(rules.points)) & (spread > _SMALLEST_SPREAD)
        refusal = tf.where((refusal == "") & ~is_face, _NO_POINTS, refusal)
    return tf.cond(refusal == "", decode, lambda: _blank(rules)), refusal


def _jpeg_to_input(encoded: tf.Tensor, rules: DecodingRules) -> tf.Tensor:
    """Decodes an upright JPEG by the ops of training, to the network's input."""
    return image_ops.jpeg_to_input(
        encoded, rules.image_size, rules.crop_fraction, rules.preprocessing
    )


def _apply_orientation(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns an image [height, width, 3] of an EXIF orientation upright."""

    def change_if(values: tuple[int, ...], change: Callable[[], tf.Tensor], image: tf.Tensor):
        is_one = tf.reduce_any(orientation == tf.constant(values, tf.int64))
        return tf.cond(is_one, change, lambda: image)

    transposed = change_if((5, 6, 7, 8), lambda: tf.transpose(image, (1, 0, 2)), image)
    mirrored = change_if((2, 3, 6, 7), lambda: tf.reverse(transposed, (1,)), transposed)
    return change_if((3, 4, 7, 8), lambda: tf.reverse(mirrored, (0,)), mirrored)


def _lay_on_white(image: tf.Tensor) -> tf.Tensor:
    """Lays uint8 [height, width, 4], RGB and opacity, on white: uint8 [height, width, 3]."""
    colours, opacity = image[:, :, : image_ops.CHANNELS], image[:, :, image_ops.CHANNELS :]

    def blend():
        share = tf.cast(opacity, tf.uint16)  # products stay below 2^16
        mixed = tf.cast(colours, tf.uint16) * share + _OPAQUE * (_OPAQUE - share) + _OPAQUE // 2
        return tf.cast(mixed // _OPAQUE, tf.uint8)

    return tf.cond(tf.reduce_all(opacity == _OPAQUE), lambda: colours, blend)


def _to_input(image: tf.Tensor, rules: DecodingRules) -> tf.Tensor:
    """Crops and resizes an upright image, uint8 [height, width, 3], to the network's input."""
    if rules.points is not None:
        assert rules.preprocessing is not None
        image = image_ops.align(image, rules.points, rules.preprocessing)
        return image_ops.to_input(image, rules.image_size, rules.crop_fraction)
    return image_ops.to_input(image, rules.image_size, rules.crop_fraction, rules.preprocessing)


def _blank(rules: DecodingRules) -> tf.Tensor:
    return tf.zeros(rules.input_shape, tf.uint8)


def _no_image(rules: DecodingRules) -> tf.Tensor:
    return tf.zeros((0, *rules.input_shape), tf.uint8)
