"""The siamese model: an encoder of images to unit embeddings, and a head on pairs of them."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
import tf_keras

from fv import image_ops
from fv.errors import UserError
from fv.model import backbones, heads
from fv.model.heads import Head
from fv.model.options import ModelOptions
from fv.model.regions import AddMirrorImages, MergeMirrorImages
from fv.pipeline import input_pipeline

# Name of the layer whose weights, without a bias, give the embeddings before normalisation.
EMBEDDING = "embedding"
_DROPOUT_STREAM = 0x64726F70  # augmentation draws from the same seed; this separates the two
_PHILOX = 1  # TensorFlow's number of the generator
_NUMBERS_PER_COUNT = 4  # that Philox makes of one value of its counter


class Siamese(tf.Module):
    """Encoder and head: the weights of a run."""

    def __init__(self, encoder: tf_keras.Model, head: Head):
        super().__init__()
        self.encoder = encoder
        self.head = head

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """The weights that learn; tf.Module's own list includes those of frozen layers."""
        return [*self.encoder.trainable_variables, *self.head.trainable_variables]

    def embed_pairs(self, images: tf.Tensor, training: bool) -> tf.Tensor:
        """Embeds both images of each pair.

        Args:
          images: uint8 or float [batch, 2, side, side, 3], values 0 to 255.
          training: whether BatchNorm and dropout act as in training.

        Returns:
          float32 [batch, 2, embedding_size], unit length.
        """
        # One call for both images: two calls per step would corrupt shared BatchNorm statistics.
        side, channels = images.shape[2], images.shape[4]
        embeddings = self.encoder(tf.reshape(images, (-1, side, side, channels)), training=training)
        return tf.reshape(embeddings, (-1, 2, embeddings.shape[-1]))

    def similarities(self, images: tf.Tensor) -> tf.Tensor:
        """Similarity of each pair, float32 [batch] in [0, 1]; images as in `embed_pairs`."""
        embeddings = self.embed_pairs(images, training=False)
        return self.head.similarity(embeddings[:, 0], embeddings[:, 1])


def build_siamese(
    options: ModelOptions, identities: int, *, sync_batch_norm: bool = False
) -> Siamese:
    """Builds the model for that many training identities; other arguments as `build_encoder`."""
    encoder = build_encoder(options, sync_batch_norm=sync_batch_norm)
    return Siamese(encoder, heads.build_head(options, identities))


def build_encoder(options: ModelOptions, *, sync_batch_norm: bool = False) -> tf_keras.Model:
    """Builds the encoder.

    Args:
      options: backbone, sizes, pooling, dropout.
      sync_batch_norm: normalise by the statistics of the images of all replicas together.

    Returns:
      A model from uint8 or float [n, image_size, image_size, 3], values 0 to 255, to float32
      [n, embedding_size] of unit length under every precision policy. Its layer 'backbone' can be
      frozen.

    Raises:
      UserError: sizes or layer do not fit the backbone.
    """
    shape = (options.image_size, options.image_size, image_ops.CHANNELS)
    images = tf_keras.Input(shape, dtype=tf.float32, name="images")
    backbone = backbones.build_backbone(options, shape, sync_batch_norm=sync_batch_norm)
    pixels = AddMirrorImages(name="mirror")(images) if options.mirror else images
    maps = tf.nest.flatten(backbone(backbones.normalise_pixels(options.backbone, pixels)))
    flatten, average = tf_keras.layers.Flatten, tf_keras.layers.GlobalAveragePooling2D
    pool = (flatten if options.pooling == "flatten" else average)(name="pool")
    pooled = [pool(each) for each in maps]
    features = tf.concat(pooled, axis=1) if len(pooled) > 1 else pooled[0]
    if options.dropout:
        features = StatelessDropout(options.dropout, name="dropout")(features)
    if len(pooled) > 1:
        features = _embed_regions(features, [each.shape[1] for each in pooled], options)
        # Whitening changes it, training does not: each region learns alone.
        dense = _dense(options.embedding_size, EMBEDDING, "identity", trainable=False)
    else:
        dense = _dense(options.embedding_size, EMBEDDING)
    embeddings = _unit_length("unit_length")(dense(features))
    if options.mirror:
        embeddings = MergeMirrorImages(dtype="float32", name="merge_mirror")(embeddings)
    return tf_keras.Model(images, embeddings, name="encoder")


def _embed_regions(features: tf.Tensor, sizes: list[int], options: ModelOptions) -> tf.Tensor:
    """Embeds the features of each region to unit length: [n, sum of sizes] → [n, d]."""
    size, rest = divmod(options.embedding_size, len(sizes))
    if rest:
        wrong = f"--embedding_size={options.embedding_size} does not divide by {len(sizes)} regions"
        raise UserError(f"{wrong}: give a multiple")
    embeddings = [
        _unit_length(f"unit_length{number}")(_dense(size, f"{EMBEDDING}{number}")(part))
        for number, part in enumerate(tf.split(features, sizes, axis=1))
    ]
    return tf.concat(embeddings, axis=1)


def _dense(
    size: int, name: str, initializer: str = "glorot_uniform", trainable: bool = True
) -> tf_keras.layers.Dense:
    return tf_keras.layers.Dense(
        size, use_bias=False, kernel_initializer=initializer, trainable=trainable, name=name
    )


def _unit_length(name: str) -> tf_keras.layers.Layer:
    # float32: in float16 the norm of 2,048 features of 6.0 overflows to a zero vector.
    return tf_keras.layers.UnitNormalization(dtype="float32", name=name)


def freeze_backbone(encoder: tf_keras.Model) -> None:
    """Keeps the backbone's weights and BatchNorm statistics constant in training."""
    encoder.get_layer(backbones.NAME).trainable = False


def apply_whitening(encoder: tf_keras.Model, matrix: np.ndarray) -> None:
    """Multiplies the embeddings by a matrix, float [embedding_size, embedding_size].

    The matrix goes into the weights of the embedding layer. That layer has no bias, and the layer
    behind it keeps only the direction.
    """
    layer = encoder.get_layer(EMBEDDING)
    layer.kernel.assign(layer.kernel.numpy() @ np.asarray(matrix, np.float32))


class StatelessDropout(tf_keras.layers.Layer):
    """Drops features in training and scales the others up. Train inside `seeded`.

    A mask depends on the seed and on the row in the global batch alone. So two replicas drop what
    one would drop, and a resumed run drops what the interrupted one would have dropped.
    """

    def __init__(self, rate: float, **kwargs):
        """rate: share of the features to drop, [0, 1)."""
        super().__init__(**kwargs)
        self.rate = rate
        self._local = threading.local()  # replicas are traced in threads

    @contextlib.contextmanager
    def seeded(self, seed: tf.Tensor, first_row: tf.Tensor) -> Iterator[None]:
        """Makes calls of this thread in the block draw their masks from a seed.

        Args:
          seed: int [2].
          first_row: row in the global batch of the first row of the calls' inputs.
        """
        self._local.place = seed, first_row
        try:
            yield
        finally:
            del self._local.place

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """inputs: float [rows, features]."""
        if not training:
            return inputs
        rows, columns = tf.shape(inputs)[0], inputs.shape[1]
        seed, first_row = self._local.place
        kept = stateless_uniform(seed, first_row, rows, columns) >= self.rate
        scaled = inputs / tf.cast(1.0 - self.rate, inputs.dtype)
        return tf.where(kept, scaled, tf.zeros_like(inputs))

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate}


def seeded_dropout(
    encoder: tf_keras.Model, seed: tf.Tensor, first_row: tf.Tensor
) -> contextlib.AbstractContextManager:
    """Calls `StatelessDropout.seeded` of the encoder's dropout, if it has one."""
    found = [layer for layer in encoder.layers if isinstance(layer, StatelessDropout)]
    return found[0].seeded(seed, first_row) if found else contextlib.nullcontext()


def stateless_uniform(
    seed: tf.Tensor, first: tf.Tensor, rows: tf.Tensor, columns: int
) -> tf.Tensor:
    """Draws rows `first` to `first + rows` of a seed's endless table of random numbers.

    XLA makes another table from the same seed; its rows are consistent too. Source of the
    generator: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011.

    Returns:
      float32 [rows, columns] in [0, 1).
    """
    counts = -(-columns // _NUMBERS_PER_COUNT)
    folded = tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int32), _DROPOUT_STREAM)
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=folded)
    start = counter + tf.stack([tf.cast(first * counts, tf.uint64), tf.constant(0, tf.uint64)])
    shape = [rows, counts * _NUMBERS_PER_COUNT]
    numbers = tf.raw_ops.StatelessRandomUniformV2(shape=shape, key=key, counter=start, alg=_PHILOX)
    return numbers[:, :columns]


class PairScorer:
    """Scores all pairs of a dataset under any strategy; its graph is traced once."""

    def __init__(self, strategy: tf.distribute.Strategy, model: Siamese):
        self._strategy, self._model = strategy, model

    def score(
        self, batches: tf.data.Dataset, after_batch: Callable[[], object] = lambda: None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores every valid pair once.

        Args:
          batches: a dataset that the strategy distributes, of batches of
            `input_pipeline.evaluation_batches`.
          after_batch: called after each batch.

        Returns:
          Similarities float32 [pairs] in [0, 1] and labels int32 [pairs]; in the order of the
          shards with one replica.
        """
        rows = [np.zeros((0, 3), np.float32)]
        for batch in input_pipeline.iterate(batches):
            rows.append(self._score_batch(batch).numpy())
            after_batch()
        similarities, labels, valid = np.concatenate(rows).T
        kept = valid > 0
        return similarities[kept], labels[kept].astype(np.int32)

    @tf.function(autograph=False)
    def _score_batch(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        scores = self._strategy.run(self._replica_scores, args=(batch,))
        return self._strategy.gather(scores, axis=0)

    def _replica_scores(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        similarities = self._model.similarities(batch["images"])
        others = [tf.cast(batch[name], tf.float32) for name in ("label", "valid")]
        return tf.stack([similarities, *others], axis=1)
