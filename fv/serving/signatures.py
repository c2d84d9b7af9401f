"""The exported graph: encoded images, pixels or embeddings in, verdicts out; all that lies between is inside.

The names, dtypes, shapes and meaning of what goes in and comes out are a contract, written down in docs/serve.md.
"""

import dataclasses
import hashlib
from collections.abc import Callable

import tensorflow as tf

from fv import preprocess
from fv.calibration import Calibration
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese
from fv.serving import decoding
from fv.serving.decoding import Rules

# Requests that arrive together go through the network together, behind their decoders, in the
# graph.
#
# A server that merges whole requests, as TensorFlow Serving does with --enable_batching, fails
# all of them by the one bad
# image of one. Here every request has checked and decoded its own images before any are merged,
# and fails alone. On two
# cores 16 callers with a pair each got 161 pairs a second, one caller 49
# (benchmarks/results/serving.md).

_BATCHES_AT_ONCE = 1  # on all cores; what arrives meanwhile makes up the next
_WAIT_MICROSECONDS = 0  # nothing is held back to gather more: requests merge while they wait for the batch before theirs
_MOST_WAITING = 1 << 16  # batches; a request past them is refused
_MOST_ROWS = 1 << 30  # of a call, which is split
_QUEUE = "images"


def merge_requests(
    encode: tf.types.experimental.ConcreteFunction, most: int, name: str
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function that goes through `encode` with the rows of concurrent calls.

    Args:
      encode: one tensor [n, …] → one tensor [n, …], row by row, for n > 0.
      most: rows at once; a call with more is split.
      name: of the process's queue: calls with another `encode`, or other weights behind it, must not use the same. (That of
        `tf.nondifferentiable_batch_function` is "batch/" in every model, which mixes the answers of two.)

    Returns:
      A function of one tensor, as `encode`.
    """

    def call(rows):
        (answers,) = tf.raw_ops.BatchFunction(
            in_tensors=[rows],
            captured_tensors=encode.captured_inputs,
            f=encode,
            Tout=[encode.outputs[0].dtype],
            num_batch_threads=_BATCHES_AT_ONCE,
            max_batch_size=_MOST_ROWS,
            allowed_batch_sizes=list(range(1, most + 1)),  # every one: others would be padded
            batch_timeout_micros=_WAIT_MICROSECONDS,
            max_enqueued_batches=_MOST_WAITING,
            enable_large_batch_splitting=True,
            shared_name=name,
            batching_queue=_QUEUE,
        )
        return tf.ensure_shape(answers, encode.outputs[0].shape)

    return call


Loader = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # as `images.loader` makes it

IMAGE_A, IMAGE_B, IMAGE = "image_a", "image_b", "image"
EMBEDDING_A, EMBEDDING_B, EMBEDDING = "embedding_a", "embedding_b", "embedding"
LENGTH_TOLERANCE = 0.01  # of an embedding that should have length 1; float16 keeps 0.001
_SERVE = [tf.TensorSpec([None], tf.string, name) for name in (IMAGE_A, IMAGE_B)]
_EMBED = [tf.TensorSpec([None], tf.string, IMAGE)]
_EMBED_PIXELS = [tf.TensorSpec([None, None, None, preprocess.CHANNELS], tf.uint8, IMAGE)]


class ServedVerifier(tf.Module):
    """What the SavedModel holds: the signatures, the weights they use, and nothing of training.

    Attributes:
      threshold: float32 scalar; two images show the same person where their similarity is at least this.
      calibration: float32 [2], slope and offset of the logit of `probability` over similarity.
    """

    def __init__(
        self,
        model: Siamese,
        options: ModelOptions,
        rules: Rules,
        threshold: float,
        calibration: Calibration,
        merged_images: int,
    ):
        """Makes the graph of a model; `merged_images` of concurrent requests are embedded at once, with 0 each alone."""
        super().__init__(name="served_verifier")
        self._options, self._rules = options, rules
        self.threshold = tf.Variable(threshold, trainable=False, dtype=tf.float32, name="threshold")
        logit = (calibration.slope, calibration.offset)
        self.calibration = tf.Variable(logit, trainable=False, dtype=tf.float32, name="calibration")
        # Plain variables, not Keras objects: those would be saved with every layer's own functions.
        scoring = model.head.scoring
        self.weights = [*model.encoder.variables, *(scoring.variables if scoring else [])]
        self._model = _Untracked(model)
        self._encode = _Untracked(_encoder(model, options, merged_images))
        self._load = _Untracked(decoding.batch_loader(rules))

    @tf.function(input_signature=_SERVE, autograph=False)
    def serve(self, image_a: tf.Tensor, image_b: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compares pairs of encoded images.

        Args:
          image_a: string [batch], JPEG, PNG, BMP or GIF.
          image_b: as image_a.

        Returns:
          similarity: float32 [batch] in [0, 1]; probability: float32 [batch] in [0, 1]; distance: float32 [batch] in [0, 2],
          of the embeddings; same: bool [batch], similarity ≥ threshold.
        """
        return self._compare_images(self._load.object, image_a, image_b)

    @tf.function(input_signature=_EMBED, autograph=False)
    def embed(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embeds encoded images: string [batch] → embedding: float32 [batch, embedding_size], unit length."""
        image = _batch(image, IMAGE)
        return {EMBEDDING: self._embed(self._load.object(image, _names(IMAGE, image)))}

    @tf.function(input_signature=_EMBED_PIXELS, autograph=False)
    def embed_pixels(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embeds upright RGB pixels: uint8 [batch, height, width, 3] → as `embed`, treated as an image file's."""
        rules = self._rules
        side = rules.image_size
        pixels = tf.map_fn(
            lambda one: preprocess.to_input(one, side, rules.crop_fraction, rules.preprocessing),
            _batch(image, IMAGE, "[batch, height, width, 3]"),
            fn_output_signature=tf.TensorSpec([side, side, preprocess.CHANNELS], tf.uint8),
        )
        return {EMBEDDING: self._embed(pixels)}

    @tf.function(autograph=False)
    def compare(self, embedding_a: tf.Tensor, embedding_b: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compares embeddings that `embed` or `embed_pixels` made: float32 [batch, embedding_size] each → as `serve`."""
        shape = f"[batch, {self._options.embedding_size}]"
        embedding_a, embedding_b = (
            _batch(embeddings, name, shape)
            for embeddings, name in ((embedding_a, EMBEDDING_A), (embedding_b, EMBEDDING_B))
        )
        _check_lengths(embedding_a, embedding_b, EMBEDDING_A, EMBEDDING_B)
        checks = [_check_unit(embedding_a, EMBEDDING_A), _check_unit(embedding_b, EMBEDDING_B)]
        with tf.control_dependencies(checks):
            return self._answer(tf.identity(embedding_a), tf.identity(embedding_b))

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The signatures by their served names."""
        shape = [None, self._options.embedding_size]
        embeddings = [tf.TensorSpec(shape, tf.float32, name) for name in (EMBEDDING_A, EMBEDDING_B)]
        return {
            "serving_default": self.serve.get_concrete_function(),
            "embed": self.embed.get_concrete_function(),
            "compare": self.compare.get_concrete_function(*embeddings),
            "embed_pixels": self.embed_pixels.get_concrete_function(),
        }

    def similarities_of_stored(self, image_a: list[bytes], image_b: list[bytes]) -> tf.Tensor:
        """Similarities, float32 [batch], of stored images: what the converter did is not repeated. It is not saved."""
        if self._rules.preprocessing is None or self._rules.preprocessing.store_size is None:
            return self.serve(tf.constant(image_a), tf.constant(image_b))["similarity"]
        load = decoding.batch_loader(dataclasses.replace(self._rules, preprocessing=None))
        compare = tf.function(
            lambda *pairs: self._compare_images(load, *pairs)["similarity"], autograph=False
        )
        return compare(tf.constant(image_a), tf.constant(image_b))

    def _compare_images(
        self, load: Loader, image_a: tf.Tensor, image_b: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        image_a, image_b = _batch(image_a, IMAGE_A), _batch(image_b, IMAGE_B)
        _check_lengths(image_a, image_b, IMAGE_A, IMAGE_B)
        names = tf.concat([_names(IMAGE_A, image_a), _names(IMAGE_B, image_b)], axis=0)
        embeddings = self._embed(load(tf.concat([image_a, image_b], axis=0), names))
        return self._answer(*tf.split(embeddings, 2))

    def _embed(self, pixels: tf.Tensor) -> tf.Tensor:
        count = tf.shape(pixels)[0]
        # TensorFlow's fused convolutions fail on no image: where the batch is empty, one is embedded for nothing.
        padded = tf.pad(pixels, [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
        return self._encode.object(padded)[:count]

    def _answer(self, embeddings_a: tf.Tensor, embeddings_b: tf.Tensor) -> dict[str, tf.Tensor]:
        similarity = self._model.object.head.similarity(embeddings_a, embeddings_b)
        return {
            "similarity": similarity,
            "probability": tf.sigmoid(self.calibration[0] * similarity + self.calibration[1]),
            "distance": tf.norm(embeddings_a - embeddings_b, axis=-1),
            "same": similarity >= self.threshold,
        }


class _Untracked:
    """Holds an object out of sight of TensorFlow's tracking of attributes."""

    def __init__(self, held: object):
        self.object = held


def _encoder(
    model: Siamese, options: ModelOptions, merged_images: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """uint8 [n, side, side, 3] → embeddings float32 [n, d]."""
    side = options.image_size

    @tf.function(
        input_signature=[tf.TensorSpec([None, side, side, preprocess.CHANNELS], tf.uint8)],
        autograph=False,
    )
    def encode(pixels):
        return model.encoder(pixels, training=False)

    @tf.function(input_signature=encode.input_signature, autograph=False)
    def encode_merged(pixels):
        return encode(
            pixels
        )  # a call inside is optimised by Grappler, the batched function itself is not: 15 % slower

    if not merged_images:
        return encode
    digest = hashlib.sha256(repr(options).encode())
    for weight in model.encoder.variables:
        digest.update(weight.numpy())
    return merge_requests(
        encode_merged.get_concrete_function(), merged_images, f"fv-{digest.hexdigest()}"
    )


def _names(name: str, batch: tf.Tensor) -> tf.Tensor:
    """name[0], name[1] and so on, string [batch]."""
    return tf.strings.join([f"{name}[", tf.strings.as_string(tf.range(tf.shape(batch)[0])), "]"])


def _batch(batch: tf.Tensor, name: str, shape: str = "[batch]") -> tf.Tensor:
    """The batch, behind assertions that it has as many dimensions as `shape`, and its last one where that is a number.

    A server passes on whatever shape it is sent. Grappler takes rank and last dimension for those of the signature, so the
    assertions count the brackets of the batch as text, and its numbers.
    """
    rank = shape.count(",") + 1
    numbers = tf.strings.length(batch) if batch.dtype == tf.string else batch
    text = tf.strings.format("{}", numbers, summarize=1)
    has_rank = tf.strings.regex_full_match(
        tf.strings.substr(text, 0, rank + 1), rf"\[{{{rank}}}[^\[]"
    )
    message = f"{name} is no batch: it has to have the shape {shape}"
    with tf.control_dependencies(
        [tf.debugging.Assert(has_rank | (tf.size(batch) == 0), [message])]
    ):
        batch = tf.identity(batch)
    if rank == 1:
        return batch
    is_wide = tf.equal(tf.size(batch), tf.size(batch[..., 0]) * batch.shape[-1])
    with tf.control_dependencies([tf.debugging.Assert(is_wide, [message])]):
        return tf.identity(batch)


def _check_lengths(batch_a: tf.Tensor, batch_b: tf.Tensor, name_a: str, name_b: str) -> None:
    tf.debugging.assert_equal(
        tf.shape(batch_a)[0], tf.shape(batch_b)[0], f"{name_a} and {name_b} differ in length"
    )


def _check_unit(embeddings: tf.Tensor, name: str) -> tf.Operation:
    length = tf.norm(embeddings, axis=-1)
    # NaN by name: Grappler makes `not <=`, which is true of it, into `>`, which is not.
    bad = tf.where(tf.math.is_nan(length) | (tf.abs(length - 1.0) > LENGTH_TOLERANCE))[:1, 0]
    found = [tf.gather(_names(name, embeddings), bad), tf.strings.as_string(tf.gather(length, bad))]
    message = tf.strings.join(
        [found[0], " has length ", found[1], ", not 1: it is no embedding of this model"]
    )
    return tf.debugging.Assert(tf.size(bad) == 0, [message])
