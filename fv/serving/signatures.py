"""The exported graph: encoded images in, verdicts out; decoding, preprocessing and threshold are inside."""

import tensorflow as tf

from fv import preprocess
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese


class ServedVerifier(tf.Module):
    """What the SavedModel holds: the signatures, the weights they use, and nothing of training.

    Attributes:
      threshold: float32 scalar; two images show the same person where their similarity is at least this.
    """

    def __init__(self, model: Siamese, options: ModelOptions, threshold: float):
        super().__init__(name="served_verifier")
        self._options = options
        self.threshold = tf.Variable(threshold, trainable=False, dtype=tf.float32, name="threshold")
        # Plain variables, not Keras objects: those would be saved with every layer's own functions.
        scoring = model.head.scoring
        self.weights = [*model.encoder.variables, *(scoring.variables if scoring else [])]
        self._model = _Untracked(model)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_a"), tf.TensorSpec([None], tf.string, "image_b")])
    def serve(self, image_a: tf.Tensor, image_b: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compares pairs.

        Args:
          image_a: string [batch], encoded images (JPEG, PNG, BMP or GIF).
          image_b: as image_a.

        Returns:
          similarity: float32 [batch] in [0, 1]; same: bool [batch], similarity ≥ threshold.
        """
        tf.debugging.assert_equal(tf.size(image_a), tf.size(image_b), "image_a and image_b differ in length")
        embeddings = self._embed(tf.concat([image_a, image_b], axis=0))
        similarity = self._model.object.head.similarity(*tf.split(embeddings, 2))
        return {"similarity": similarity, "same": similarity >= self.threshold}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image")])
    def embed(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embeds images: string [batch] → embedding: float32 [batch, embedding_size], unit length."""
        return {"embedding": self._embed(image)}

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The signatures by their served names."""
        return {"serving_default": self.serve.get_concrete_function(), "embed": self.embed.get_concrete_function()}

    def _embed(self, encoded: tf.Tensor) -> tf.Tensor:
        size = self._options.image_size
        pixels = tf.map_fn(
            lambda image: preprocess.load_image(image, size, self._options.crop_fraction),
            encoded,
            fn_output_signature=tf.TensorSpec([size, size, preprocess.CHANNELS], tf.uint8),
        )
        return self._model.object.encoder(pixels, training=False)


class _Untracked:
    """Holds an object out of sight of TensorFlow's tracking of attributes."""

    def __init__(self, held: object):
        self.object = held
