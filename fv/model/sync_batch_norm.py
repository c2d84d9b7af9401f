"""BatchNorm by the statistics of all replicas' images together."""

from collections.abc import Sequence

import tensorflow as tf
import tf_keras

_SUM = tf.distribute.ReduceOp.SUM


class SyncBatchNormalization(tf_keras.layers.BatchNormalization):
    """tf_keras's layer with `synchronized=True`, of which one sum over the replicas serves where that takes three.

    All replicas have equally many images, as fv's batches give them. Tracing is the other reason: behind each of those sums
    TensorFlow 2.21 searches the other replicas' whole graphs for variables, so that the step of InceptionV3, whose 94 layers
    do so forward and backward, was still being traced after five minutes on two replicas.
    """

    def _sync_calculate_mean_and_var(
        self,
        x: tf.Tensor,
        reduction_axes: Sequence[int],
        keep_dims: bool,
        mask: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and variance of float [..., channels] over the axes and the replicas; overrides that of tf_keras."""
        if mask is not None or tf.distribute.in_cross_replica_context():
            return super()._sync_calculate_mean_and_var(x, reduction_axes, keep_dims, mask=mask)
        images = tf.cast(x, tf.float32)  # a float16 holds no square beyond 65,504
        own = [
            tf.reduce_mean(each, reduction_axes, keepdims=keep_dims)
            for each in (images, tf.square(images))
        ]
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        mean, squares = tf.unstack(sum_over_replicas(tf.stack(own)) / replicas)
        variance = tf.maximum(squares - tf.square(mean), 0.0)
        return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)


def sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """The sum of all replicas' values, float of any one shape, with its gradient; to be called in each replica."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return value
    if not isinstance(context.strategy, tf.distribute.MirroredStrategy):
        return context.all_reduce(_SUM, value)  # each replica has a graph of its own
    return _attached(value, _merged_sum(value))


@tf.custom_gradient
def _attached(value: tf.Tensor, total: tf.Tensor):
    """The total as a function of this replica's value; as an argument it ends TensorFlow's search behind it."""
    del value
    return tf.identity(total), lambda gradient: (_merged_sum(gradient), None)


def _merged_sum(value: tf.Tensor) -> tf.Tensor:
    def merge(strategy: tf.distribute.Strategy, each: tf.Tensor) -> tf.Tensor:
        return strategy.extended.reduce_to(_SUM, each, destinations=each)

    return tf.distribute.get_replica_context().merge_call(merge, args=(value,))
