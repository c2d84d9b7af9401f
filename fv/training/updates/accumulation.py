"""Gradients summed over the parts of a batch, on each replica."""

from collections.abc import Sequence

import tensorflow as tf


class Accumulators:
    """One float32 sum per weight and replica; all are zero between steps, so a checkpoint needs none of them."""

    def __init__(self, variables: Sequence[tf.Variable]):
        """Call it in the strategy's scope."""
        local = dict(
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )
        self._sums = {
            each.ref(): tf.Variable(tf.zeros(each.shape), trainable=False, **local)
            for each in variables
        }

    def add(self, gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable]) -> None:
        """Adds the gradients of one part; to be called in each replica."""
        for gradient, variable in zip(gradients, variables, strict=True):
            self._sums[variable.ref()].assign_add(gradient)

    def take(self, variables: Sequence[tf.Variable]) -> list[tf.Tensor]:
        """This replica's sums, which are zero again from then on."""
        sums = [self._sums[variable.ref()] for variable in variables]
        taken = [each.read_value() for each in sums]
        with tf.control_dependencies(taken):
            for each in sums:
                each.assign(tf.zeros_like(each))
        return taken
