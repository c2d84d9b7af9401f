"""A batch of encoded images → the network's input; a bad one is named by its place in the batch.

A data set is the one thing in a graph that goes on after an op's error, so the decoders run in one. To start it takes time:
plain JPEGs, which nearly all images are, go through it as one element, and image by image only where that fails.
"""

from collections.abc import Callable

import tensorflow as tf

from fv import preprocess
from fv.serving import decoding, orientation

DECODES_AT_ONCE = 8  # of a batch; bounds the memory of whole images
_NOT_INLINED = {
    "_noinline": True
}  # else the ops of the longer way cost 0.3 ms an image though they do not run
_DAMAGED = "is no whole JPEG, PNG, BMP or GIF: it is damaged, cut short, or of a kind that libjpeg and libpng do not know"


def loader(rules: decoding.Rules) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
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
        is_jpeg = tf.reduce_all(tf.strings.substr(encoded, 0, len(decoding.JPEG)) == decoding.JPEG)
        plain = is_jpeg & ~orientation.may_be_turned(encoded) & decoding.has_few_scans(encoded)
        pixels = tf.cond(plain, lambda: _load_plain(encoded, rules), lambda: _nothing(rules)[:0])
        whole = tf.shape(pixels)[0] == tf.size(
            encoded
        )  # else the longer way finds out what is wrong with which
        return tf.cond(whole, lambda: pixels, lambda: load_any(encoded, names))

    return load


def _load_plain(encoded: tf.Tensor, rules: decoding.Rules) -> tf.Tensor:
    """Pixels of plain JPEGs if all are whole and within the limit; else of none."""
    spec = tf.TensorSpec(_nothing(rules).shape[1:], tf.uint8)

    def load_all(batch):
        return tf.map_fn(
            lambda image: _load_ordinary(image, rules), batch, fn_output_signature=spec
        )

    loaded = tf.data.Dataset.from_tensors(encoded).map(load_all).ignore_errors()
    return (
        loaded.concatenate(tf.data.Dataset.from_tensors(_nothing(rules)[:0]))
        .take(1)
        .get_single_element()
    )


def _load_ordinary(encoded: tf.Tensor, rules: decoding.Rules) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(encoded)
    fits = tf.cast(shape[0], tf.int64) * tf.cast(shape[1], tf.int64) <= rules.max_pixels
    fits &= shape[2] <= preprocess.CHANNELS  # the longer way looks at CMYK
    refused = tf.raw_ops.Assert(condition=fits, data=["large"])  # tf.debugging's has a branch more
    with tf.control_dependencies([refused]):
        return preprocess.load_jpeg(
            tf.identity(encoded), rules.image_size, rules.crop_fraction, rules.preprocessing
        )


def _load_any(encoded: tf.Tensor, names: tf.Tensor, rules: decoding.Rules) -> tf.Tensor:
    count = tf.size(encoded, tf.int64)
    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    loaded = rows.map(
        lambda index, image: (index, *_load_one(image, rules)), DECODES_AT_ONCE, deterministic=True
    )
    last = tf.data.Dataset.from_tensors(
        (count, "", _nothing(rules)[0])
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


def _load_one(image: tf.Tensor, rules: decoding.Rules) -> tuple[tf.Tensor, tf.Tensor]:
    pixels, complaint = decoding.load(image, rules)
    return complaint, tf.ensure_shape(pixels, _nothing(rules).shape[1:])


def _nothing(rules: decoding.Rules) -> tf.Tensor:
    return tf.zeros((1, rules.image_size, rules.image_size, preprocess.CHANNELS), tf.uint8)
