"""The siamese model: one encoder for both images of a pair, and a head on its embeddings."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras

from fv.model import encoder as encoders
from fv.model import heads
from fv.model.options import ModelOptions


class Siamese(tf.Module):
    """Encoder and head; the weights of a run."""

    def __init__(self, encoder: tf_keras.Model, head: tf.Module):
        super().__init__(name="siamese")
        self.encoder = encoder
        self.head = head

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """The weights that learn; tf.Module's own list would hold those of frozen layers too."""
        return [*self.encoder.trainable_variables, *self.head.trainable_variables]

    def embed_pairs(self, images: tf.Tensor, training: bool) -> tf.Tensor:
        """Embeds both images of each pair in one call: two calls per step would corrupt shared BatchNorm statistics.

        Args:
          images: uint8 or float [batch, 2, side, side, 3], values 0 to 255.
          training: whether BatchNorm and dropout act as in training.

        Returns:
          float32 [batch, 2, embedding_size], unit length.
        """
        side, channels = images.shape[2], images.shape[4]
        embeddings = self.encoder(tf.reshape(images, (-1, side, side, channels)), training=training)
        return tf.reshape(embeddings, (-1, 2, embeddings.shape[-1]))

    def similarities(self, images: tf.Tensor) -> tf.Tensor:
        """Similarity of the images of each pair, float32 [batch] in [0, 1]; arguments as in `embed_pairs`."""
        embeddings = self.embed_pairs(images, training=False)
        return self.head.similarity(embeddings[:, 0], embeddings[:, 1])


def build_siamese(
    options: ModelOptions, identities: int, *, sync_batch_norm: bool = False
) -> Siamese:
    """Builds the model for that many training identities; `sync_batch_norm` as in `encoder.build_encoder`."""
    encoder = encoders.build_encoder(options, sync_batch_norm=sync_batch_norm)
    return Siamese(encoder, heads.build_head(options, identities))


# Similarities of all pairs of a dataset, under any strategy.


class PairScorer:
    """Scores evaluation batches with a model; its graph is built once and serves every later call."""

    def __init__(self, strategy: tf.distribute.Strategy, model: Siamese):
        self._strategy, self._model = strategy, model

    def score(
        self, batches: tf.data.Dataset, after_batch: Callable[[], object] = lambda: None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores every valid pair once.

        Args:
          batches: a dataset that the strategy distributes, of batches that `input_pipeline.evaluation_batches` makes.
          after_batch: called after each batch.

        Returns:
          similarities float32 [pairs] in [0, 1] and labels int32 [pairs]; in the shards' order where there is one replica.
        """
        rows = [np.zeros((0, 3), np.float32)]
        for batch in batches:
            rows.append(self._score_batch(batch).numpy())
            after_batch()
        similarities, labels, valid = np.concatenate(rows).T
        kept = valid > 0
        return similarities[kept], labels[kept].astype(np.int32)

    @tf.function(autograph=False)
    def _score_batch(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        return self._strategy.gather(
            self._strategy.run(self._replica_scores, args=(batch,)), axis=0
        )

    def _replica_scores(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        similarities = self._model.similarities(batch["images"])
        return tf.stack(
            [
                similarities,
                tf.cast(batch["label"], tf.float32),
                tf.cast(batch["valid"], tf.float32),
            ],
            axis=1,
        )
