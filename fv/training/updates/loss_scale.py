"""Dynamic loss scale: keeps the gradients of a float16 computation within float16's range."""

from collections.abc import Sequence

import tensorflow as tf

# tf_keras begins at 2^15. In the 200 steps of updates/test_precision.py that overflowed in the first one, which was
# skipped, and left the smoothed losses up to 6.3 % off float32's; from 2^12 on no step overflows, and they are 0.6 % off.
_INITIAL = 2.0**12
_LARGEST, _SMALLEST = 2.0**24, 1.0
_GROWTH_STEPS = 2000  # in a row without an overflow before the scale doubles


class LossScale(tf.Module):
    """The factor on the loss; it halves where gradients overflow, and doubles after many steps in which none did.

    Source: Micikevicius et al., Mixed Precision Training, 2018. tf_keras has the same in LossScaleOptimizer, but around one
    optimizer; here several share one scale, and a step reaches all groups of weights or none.
    """

    def __init__(self, initial: float = _INITIAL, growth_steps: int = _GROWTH_STEPS):
        super().__init__(name="loss_scale")
        self.scale = tf.Variable(initial, trainable=False, dtype=tf.float32, name="scale")
        self.good_steps = tf.Variable(0, trainable=False, dtype=tf.int64, name="good_steps")
        self._growth_steps = growth_steps

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The float32 loss whose gradients are `scale` times too large."""
        return loss * self.scale

    def unscaled(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The gradients of the loss itself, float32."""
        return [gradient / self.scale for gradient in gradients]

    def update(self, finite: tf.Tensor) -> None:
        """Counts a step whose gradients were all finite, or not; to be called outside the replicas."""
        grows = self.good_steps + 1 >= self._growth_steps
        raised = tf.where(grows, tf.minimum(2.0 * self.scale, _LARGEST), self.scale)
        scale = tf.where(finite, raised, tf.maximum(self.scale / 2.0, _SMALLEST))
        good_steps = tf.where(tf.logical_and(finite, tf.logical_not(grows)), self.good_steps + 1, 0)
        self.scale.assign(scale)
        self.good_steps.assign(good_steps)


def all_finite(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """Whether no gradient holds an infinity or a NaN, bool scalar."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
