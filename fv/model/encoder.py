"""The encoder: pixels → unit embeddings, around a backbone."""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tf_keras

from fv import preprocess
from fv.model import backbones
from fv.model.options import ModelOptions

# Dropout whose masks depend on the seed and the row in the global batch alone: on no state, no
# number of replicas.

_STREAM = 0x64726F70  # folded into the seed, so that augmentation, which has the same, draws other numbers
_PHILOX = 1
_NUMBERS_PER_COUNT = 4  # that Philox makes of one value of its counter


class StatelessDropout(tf_keras.layers.Layer):
    """Drops features in training, scaling the others up; it acts only inside `seeded`.

    The masks of a global batch are rows of one long table of numbers, of which each replica draws its own: two replicas drop
    what one would, and a run that was interrupted goes on to drop what it would have.
    """

    def __init__(self, rate: float, **kwargs):
        """rate: share of the features that is dropped, [0, 1)."""
        super().__init__(**kwargs)
        self.rate = rate
        self._local = threading.local()  # replicas are traced in threads

    @contextlib.contextmanager
    def seeded(self, seed: tf.Tensor, first_row: tf.Tensor) -> Iterator[None]:
        """Calls inside, in this thread, draw from the seed, int [2], for rows of the global batch from `first_row` on."""
        self._local.place = seed, first_row
        try:
            yield
        finally:
            del self._local.place

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """inputs: float [rows, features]."""
        if not training:
            return inputs
        kept = (
            stateless_uniform(*self._local.place, tf.shape(inputs)[0], inputs.shape[1]) >= self.rate
        )
        return tf.where(
            kept, inputs / tf.cast(1.0 - self.rate, inputs.dtype), tf.zeros_like(inputs)
        )

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate}


def stateless_uniform(
    seed: tf.Tensor, first: tf.Tensor, rows: tf.Tensor, columns: int
) -> tf.Tensor:
    """Rows `first` to `first + rows` of the seed's endless table of `columns` numbers, float32 [rows, columns] in [0, 1).

    XLA makes another table of the same seed, whose rows hold together as well. Source of the generator: Salmon et al.,
    Parallel Random Numbers: As Easy as 1, 2, 3, 2011.
    """
    counts = -(-columns // _NUMBERS_PER_COUNT)
    folded = tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int32), _STREAM)
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=folded)
    start = counter + tf.stack([tf.cast(first * counts, tf.uint64), tf.constant(0, tf.uint64)])
    shape = [rows, counts * _NUMBERS_PER_COUNT]
    numbers = tf.raw_ops.StatelessRandomUniformV2(shape=shape, key=key, counter=start, alg=_PHILOX)
    return numbers[:, :columns]


EMBEDDING = "embedding"  # layer whose weights, without a bias, give the embeddings before they get unit length


def build_encoder(options: ModelOptions, *, sync_batch_norm: bool = False) -> tf_keras.Model:
    """Builds the encoder.

    Args:
      options: backbone, sizes, pooling, dropout.
      sync_batch_norm: normalise by the statistics of all replicas' images together.

    Returns:
      A model from uint8 or float [n, image_size, image_size, 3], values 0 to 255, to float32 [n, embedding_size] of unit
      length, whatever the precision policy. Its layer 'backbone' can be frozen.

    Raises:
      UserError: sizes or layer do not fit the backbone.
    """
    shape = (options.image_size, options.image_size, preprocess.CHANNELS)
    images = tf_keras.Input(shape, dtype=tf.float32, name="images")
    backbone = backbones.build_backbone(options, shape, sync_batch_norm=sync_batch_norm)
    features = _pool(
        backbone(backbones.normalise_pixels(options.backbone, images)), options.pooling
    )
    if options.dropout:
        features = StatelessDropout(options.dropout, name="dropout")(features)
    embeddings = tf_keras.layers.Dense(options.embedding_size, use_bias=False, name=EMBEDDING)(
        features
    )
    embeddings = tf_keras.layers.UnitNormalization(dtype="float32", name="unit_length")(embeddings)
    return tf_keras.Model(images, embeddings, name="encoder")


def freeze_backbone(encoder: tf_keras.Model) -> None:
    """Keeps the backbone's weights and BatchNorm statistics as they are in training."""
    encoder.get_layer(backbones.NAME).trainable = False


def seeded_dropout(
    encoder: tf_keras.Model, seed: tf.Tensor, first_row: tf.Tensor
) -> contextlib.AbstractContextManager:
    """While it lasts, training calls in this thread drop features as `StatelessDropout.seeded` says."""
    found = [layer for layer in encoder.layers if isinstance(layer, StatelessDropout)]
    return found[0].seeded(seed, first_row) if found else contextlib.nullcontext()


def apply_whitening(encoder: tf_keras.Model, matrix: np.ndarray) -> None:
    """Makes the encoder's embeddings those of before times `matrix`, float [embedding_size, embedding_size], at unit length.

    The layer of embeddings has no bias, and what follows it keeps their direction alone: so its weights take the matrix.
    """
    layer = encoder.get_layer(EMBEDDING)
    layer.kernel.assign(layer.kernel.numpy() @ np.asarray(matrix, np.float32))


def _pool(features: tf.Tensor, pooling: str) -> tf.Tensor:
    if pooling == "flatten":
        return tf_keras.layers.Flatten(name="pool")(features)
    return tf_keras.layers.GlobalAveragePooling2D(name="pool")(features)
