"""Dropout whose masks depend on the seed and the row in the global batch alone: on no state, no number of replicas."""

import contextlib
import threading
from collections.abc import Iterator

import tensorflow as tf
import tf_keras

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
        kept = uniform(*self._local.place, tf.shape(inputs)[0], inputs.shape[1]) >= self.rate
        return tf.where(
            kept, inputs / tf.cast(1.0 - self.rate, inputs.dtype), tf.zeros_like(inputs)
        )

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate}


def uniform(seed: tf.Tensor, first: tf.Tensor, rows: tf.Tensor, columns: int) -> tf.Tensor:
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
