"""The exported graph (image files, pixels or embeddings in, answers out) and its warm-up requests.

Names, dtypes, shapes and meaning of inputs and outputs are a contract (docs/serve.md).
"""

import dataclasses
import os
from collections.abc import Callable

import tensorflow as tf

from fv import image_ops, record
from fv.calibration import Calibration
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese
from fv.serving import decoding, engine, inference
from fv.serving.contract import (
    EMBEDDING,
    EMBEDDING_A,
    EMBEDDING_B,
    IMAGE,
    IMAGE_A,
    IMAGE_B,
    LENGTH_TOLERANCE,
    MODEL_NAME,
    POINTS,
    POINTS_A,
    POINTS_B,
    Inputs,
)
from fv.serving.decoding import DecodingRules

_SERVE = [tf.TensorSpec([None], tf.string, name) for name in (IMAGE_A, IMAGE_B)]
_EMBED = [tf.TensorSpec([None], tf.string, IMAGE)]
_POINTS = [tf.TensorSpec([None, 5, 2], tf.float32, name) for name in (POINTS_A, POINTS_B)]
_EMBED_POINTS = [*_EMBED, tf.TensorSpec([None, 5, 2], tf.float32, POINTS)]
_EMBED_PIXELS = [tf.TensorSpec([None, None, None, image_ops.CHANNELS], tf.uint8, IMAGE)]
WARM_UP = os.path.join("assets.extra", "tf_serving_warmup_requests")
BATCH_SIZES = (1, 8)  # of the warm-up requests

Answers = dict[str, tf.Tensor]
Signatures = dict[str, tf.types.experimental.ConcreteFunction]  # by their served names


class ServedVerifier(tf.Module):
    """What the SavedModel holds: the signatures and the trained weights, nothing of training.

    Attributes:
      threshold: float32 scalar; from this similarity on two images show the same person.
      calibration: float32 [2], slope and offset of the logit of `probability` over similarity.
    """

    def __init__(
        self,
        model: Siamese,
        options: ModelOptions,
        rules: DecodingRules,
        threshold: float,
        calibration: Calibration,
        merged_images: int,
    ):
        """Makes the graph of a trained model.

        Images of concurrent requests are embedded together, up to `merged_images` at once; 0 embeds
        each request alone.
        """
        super().__init__(name="served_verifier")
        self._options, self._rules = options, rules
        self.threshold = tf.Variable(threshold, trainable=False, dtype=tf.float32, name="threshold")
        logit = (calibration.slope, calibration.offset)
        self.calibration = tf.Variable(logit, trainable=False, dtype=tf.float32, name="calibration")
        # Plain variables and Python functions: a Keras object would be saved with the functions of
        # every layer, and TensorFlow finds every object that is an attribute.
        # The graph has the encoder's weights folded into constants; `weights` are as trained, for
        # `fv.train --init_weights`.
        scoring = model.head.scoring
        self.weights = [*model.encoder.variables, *(scoring.variables if scoring else [])]
        self._similarity = model.head.similarity
        self._encode = inference.make_encode(model.encoder, options, merged_images)
        self._load = decoding.batch_loader(rules)
        self._load_aligned = decoding.batch_loader(rules, aligned=True)

    @tf.function(input_signature=_SERVE, autograph=False)
    def serve(self, image_a: tf.Tensor, image_b: tf.Tensor) -> Answers:
        """Compares pairs of encoded images.

        Args:
          image_a: string [batch], JPEG, PNG, BMP or GIF.
          image_b: as image_a.

        Returns:
          similarity: float32 [batch] in [0, 1]; probability: float32 [batch] in [0, 1]; distance:
          float32 [batch] in [0, 2], of the embeddings; same: bool [batch], similarity ≥ threshold.
        """
        return self._compare_images(self._load, image_a, image_b)

    @tf.function(input_signature=_EMBED, autograph=False)
    def embed(self, image: tf.Tensor) -> Answers:
        """Embeds encoded images, string [batch]; `embedding`: float32 [batch, d] of unit length."""
        image = _check_batch(image, IMAGE)
        return {EMBEDDING: self._embed(self._load(image, _names(IMAGE, image)))}

    # Without a signature of their own, so that a model of crops does not save them.
    @tf.function(autograph=False)
    def serve_aligned(
        self, image_a: tf.Tensor, image_b: tf.Tensor, points_a: tf.Tensor, points_b: tf.Tensor
    ) -> Answers:
        """Aligns a face in each image and compares pairs of them.

        Args:
          image_a: string [batch], whole photographs.
          image_b: as image_a.
          points_a: float32 [batch, 5, 2], x and y in pixels of the upright image: the eyes, the tip
            of the nose and the corners of the mouth, of each two the left one in the image first.
          points_b: as points_a.

        Returns:
          As `serve`.
        """
        _check_lengths(image_a, points_a, IMAGE_A, POINTS_A)
        _check_lengths(image_b, points_b, IMAGE_B, POINTS_B)
        points = tf.concat([points_a, points_b], axis=0)
        return self._compare_images(
            lambda encoded, names: self._load_aligned(encoded, names, points), image_a, image_b
        )

    @tf.function(autograph=False)
    def embed_aligned(self, image: tf.Tensor, points: tf.Tensor) -> Answers:
        """Aligns a face in each image, as `serve_aligned`, and embeds it, as `embed`."""
        image = _check_batch(image, IMAGE)
        _check_lengths(image, points, IMAGE, POINTS)
        return {EMBEDDING: self._embed(self._load_aligned(image, _names(IMAGE, image), points))}

    @tf.function(input_signature=_EMBED_PIXELS, autograph=False)
    def embed_pixels(self, image: tf.Tensor) -> Answers:
        """Embeds upright RGB pixels, uint8 [batch, height, width, 3], like the image files."""
        rules = self._rules
        pixels = tf.map_fn(
            lambda one: image_ops.to_input(
                one, rules.image_size, rules.crop_fraction, rules.preprocessing
            ),
            _check_batch(image, IMAGE, "[batch, height, width, 3]"),
            fn_output_signature=tf.TensorSpec(rules.input_shape, tf.uint8),
        )
        return {EMBEDDING: self._embed(pixels)}

    @tf.function(autograph=False)
    def compare(self, embedding_a: tf.Tensor, embedding_b: tf.Tensor) -> Answers:
        """Compares embeddings, float32 [batch, d] each; answers as in `serve`."""
        shape = f"[batch, {self._options.embedding_size}]"
        embedding_a = _check_batch(embedding_a, EMBEDDING_A, shape)
        embedding_b = _check_batch(embedding_b, EMBEDDING_B, shape)
        _check_lengths(embedding_a, embedding_b, EMBEDDING_A, EMBEDDING_B)
        checks = [_check_unit(embedding_a, EMBEDDING_A), _check_unit(embedding_b, EMBEDDING_B)]
        with tf.control_dependencies(checks):
            return self._answer(tf.identity(embedding_a), tf.identity(embedding_b))

    def signatures(self) -> Signatures:
        """The signatures by their served names."""
        shape = [None, self._options.embedding_size]
        embeddings = [tf.TensorSpec(shape, tf.float32, name) for name in (EMBEDDING_A, EMBEDDING_B)]
        signatures = {
            "serving_default": self.serve.get_concrete_function(),
            "embed": self.embed.get_concrete_function(),
            "compare": self.compare.get_concrete_function(*embeddings),
            "embed_pixels": self.embed_pixels.get_concrete_function(),
        }
        if self._rules.aligns:
            signatures["serve_aligned"] = self.serve_aligned.get_concrete_function(
                *_SERVE, *_POINTS
            )
            signatures["embed_aligned"] = self.embed_aligned.get_concrete_function(*_EMBED_POINTS)
        return signatures

    def similarities_of_stored(self, image_a: list[bytes], image_b: list[bytes]) -> tf.Tensor:
        """Scores images from shards, without the converter's steps, float32 [batch]. Not saved."""
        if self._rules.preprocessing is None or self._rules.preprocessing.store_size is None:
            return self.serve(tf.constant(image_a), tf.constant(image_b))["similarity"]
        load = decoding.batch_loader(dataclasses.replace(self._rules, preprocessing=None))
        compare = tf.function(
            lambda *pairs: self._compare_images(load, *pairs)["similarity"], autograph=False
        )
        return compare(tf.constant(image_a), tf.constant(image_b))

    def _compare_images(
        self, load: Callable[..., tf.Tensor], image_a: tf.Tensor, image_b: tf.Tensor
    ) -> Answers:
        image_a, image_b = _check_batch(image_a, IMAGE_A), _check_batch(image_b, IMAGE_B)
        _check_lengths(image_a, image_b, IMAGE_A, IMAGE_B)
        names = tf.concat([_names(IMAGE_A, image_a), _names(IMAGE_B, image_b)], axis=0)
        embeddings = self._embed(load(tf.concat([image_a, image_b], axis=0), names))
        return self._answer(*tf.split(embeddings, 2))

    def _embed(self, pixels: tf.Tensor) -> tf.Tensor:
        count = tf.shape(pixels)[0]
        # TensorFlow's fused convolutions fail on an empty batch, which gets a blank image here.
        padded = tf.pad(pixels, [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
        return self._encode(padded)[:count]

    def _answer(self, embeddings_a: tf.Tensor, embeddings_b: tf.Tensor) -> Answers:
        similarity = self._similarity(embeddings_a, embeddings_b)
        return {
            "similarity": similarity,
            "probability": tf.sigmoid(self.calibration[0] * similarity + self.calibration[1]),
            "distance": tf.norm(embeddings_a - embeddings_b, axis=-1),
            "same": similarity >= self.threshold,
        }


def _names(name: str, batch: tf.Tensor) -> tf.Tensor:
    """name[0], name[1] and so on, string [batch]."""
    return tf.strings.join([f"{name}[", tf.strings.as_string(tf.range(tf.shape(batch)[0])), "]"])


def _check_batch(batch: tf.Tensor, name: str, shape: str = "[batch]") -> tf.Tensor:
    """Returns the batch behind assertions on its rank and, if `shape` ends in a number, its width.

    A server passes on any shape. Grappler replaces rank and last dimension by those of the
    signature, so the assertions count the brackets of the batch as text, and its numbers.
    """
    rank = shape.count(",") + 1
    numbers = tf.strings.length(batch) if batch.dtype == tf.string else batch
    text = tf.strings.substr(tf.strings.format("{}", numbers, summarize=1), 0, rank + 1)
    has_rank = tf.strings.regex_full_match(text, rf"\[{{{rank}}}[^\[]") | (tf.size(batch) == 0)
    message = f"{name} is no batch: it has to have the shape {shape}"
    with tf.control_dependencies([tf.debugging.Assert(has_rank, [message])]):
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
    # NaN by name: Grappler turns `not <=`, which is true for NaN, into `>`, which is not.
    bad = tf.where(tf.math.is_nan(length) | (tf.abs(length - 1.0) > LENGTH_TOLERANCE))[:1, 0]
    found = [tf.gather(_names(name, embeddings), bad), tf.strings.as_string(tf.gather(length, bad))]
    message = tf.strings.join(
        [found[0], " has length ", found[1], ", not 1: it is no embedding of this model"]
    )
    return tf.debugging.Assert(tf.size(bad) == 0, [message])


# Only the fields of `tensorflow.serving.PredictionLog` that a request sets, so that an export needs
# no tensorflow-serving-api. A TensorProto stands as bytes, which have its wire format. Sources:
# prediction_log.proto, predict.proto and model.proto in tensorflow_serving/apis.
_PREDICTION_LOG = """
name: "prediction_log.proto" package: "tensorflow.serving" syntax: "proto3"
message_type {
  name: "ModelSpec"
  field { name: "name" number: 1 type: TYPE_STRING }
  field { name: "signature_name" number: 3 type: TYPE_STRING }
}
message_type {
  name: "PredictRequest"
  nested_type {
    name: "InputsEntry"
    options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type: TYPE_BYTES }
  }
  field { name: "model_spec" number: 1 type_name: ".tensorflow.serving.ModelSpec" }
  field {
    name: "inputs" number: 2 label: LABEL_REPEATED
    type_name: ".tensorflow.serving.PredictRequest.InputsEntry"
  }
}
message_type {
  name: "PredictLog"
  field { name: "request" number: 1 type_name: ".tensorflow.serving.PredictRequest" }
}
message_type {
  name: "PredictionLog"
  field { name: "predict_log" number: 6 type_name: ".tensorflow.serving.PredictLog" }
}
"""
_PredictionLog = record.message_class(_PREDICTION_LOG, "tensorflow.serving.PredictionLog")


def write_warm_up(folder: str, signatures: Signatures) -> None:
    """Writes warm-up requests, so that the first caller of a server does not wait.

    TensorFlow Serving replays them when it loads a version: noise for every signature, at batch
    sizes 1 and 8.
    """
    path = os.path.join(folder, WARM_UP)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        for size in BATCH_SIZES:
            pixels, jpegs, pngs = engine.draw_noise(size)
            for name, function in signatures.items():
                encoded = pngs if name.startswith("embed") else jpegs
                inputs = engine.example_inputs(function, pixels, encoded)
                file.write(record.frame(prediction_log(name, inputs)))


def prediction_log(signature: str, inputs: Inputs) -> bytes:
    """Serialises a PredictionLog of one request to a signature, with its arguments by name."""
    log = _PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, signature
    for name, values in inputs.items():
        tensor = tf.make_tensor_proto(values)
        request.inputs[name] = tensor.SerializeToString(deterministic=True)
    return log.SerializeToString(deterministic=True)
