"""From the gradients of all replicas to new weights: sum, unscale, clip, one update rule per group of weights."""

from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras

from fv.model.siamese import Siamese
from fv.training.updates import groups, loss_scale, optimizers, schedule
from fv.training.updates.loss_scale import LossScale
from fv.training.updates.optimizer_options import OptimizerOptions

SUM = tf.distribute.ReduceOp.SUM


class Updater(tf.Module):
    """All of a run's update rules, with their slots made when it is: a checkpoint restores every one of them.

    Attributes:
      options: what the run was told of its updates.
      loss_scale: of a float16 computation, None for other precisions.
      optimizers: one per group of weights.
    """

    def __init__(self, options: OptimizerOptions, whole: schedule.WarmupThenDecay, model: Siamese):
        """Call it in the strategy's scope, after the precision policy is set.

        Raises:
          UserError: the choice needs tensorflow-addons, which is not installed.
        """
        super().__init__(name="updater")
        self.loss_scale = (
            LossScale()
            if tf_keras.mixed_precision.global_policy().compute_dtype == "float16"
            else None
        )
        self.options = options
        self._groups = groups.split(model)
        self.optimizers = [_build(options, whole, group) for group in self._groups]

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """What is to be differentiated for the gradients that `apply` takes."""
        return self.loss_scale.scaled(loss) if self.loss_scale else loss

    def apply(self, gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable]) -> tf.Tensor:
        """Updates the weights; to be called in each replica.

        Args:
          gradients: float32, this replica's share of the gradients of the scaled loss; the replicas' are summed here.
          variables: what they are the gradients of; weights that are not among them, and their slots, stay as they are.

        Returns:
          bool scalar: False where float16's gradients overflowed, so that only the loss scale changed.
        """
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(SUM, list(gradients))
        if not self.loss_scale:
            self._apply(gradients, variables)
            return tf.constant(True)
        finite = loss_scale.all_finite(gradients)
        unscaled = self.loss_scale.unscaled(gradients)
        # Rules merge the replicas, which a condition inside a replica must not hold: the condition has to be outside.
        return context.merge_call(self._applying_where_finite(variables), args=(finite, unscaled))

    def _applying_where_finite(self, variables: Sequence[tf.Variable]) -> Callable:
        def apply(
            strategy: tf.distribute.Strategy, finite: tf.Tensor, gradients: list[tf.Tensor]
        ) -> tf.Tensor:
            finite = strategy.experimental_local_results(finite)[0]

            def update() -> tf.Tensor:
                strategy.run(lambda each: self._apply(each, variables), args=(gradients,))
                return tf.constant(True)

            def skip() -> tf.Tensor:
                for optimizer, _ in self._pairs(gradients, variables):
                    optimizer.iterations.assign_add(1)  # the schedule goes on
                return tf.constant(False)

            applied = tf.cond(finite, update, skip)
            self.loss_scale.update(finite)
            return applied

        return apply

    def _apply(self, gradients: list[tf.Tensor], variables: Sequence[tf.Variable]) -> None:
        if self.options.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.options.clip_norm)
        for optimizer, pairs in self._pairs(gradients, variables):
            optimizer.apply_gradients(pairs, experimental_aggregate_gradients=False)

    def _pairs(
        self, gradients: list[tf.Tensor], variables: Sequence[tf.Variable]
    ) -> list[tuple[optimizers.Optimizer, list]]:
        """The optimizer of each group that has gradients, with (gradient, variable) pairs."""
        by_variable = {
            variable.ref(): gradient
            for gradient, variable in zip(gradients, variables, strict=True)
        }
        found = []
        for optimizer, group in zip(self.optimizers, self._groups, strict=True):
            pairs = [
                (by_variable[each.ref()], each)
                for each in group.variables
                if each.ref() in by_variable
            ]
            if pairs:
                found.append((optimizer, pairs))
        return found


def _build(
    options: OptimizerOptions, whole: schedule.WarmupThenDecay, group: groups.Group
) -> optimizers.Optimizer:
    """The group's update rule, its slots included."""
    rate = whole
    if group.of_backbone:
        still = max(options.freeze_backbone_steps, 0)
        rate = schedule.Part(whole, options.backbone_learning_rate, still)
    optimizer = optimizers.build_optimizer(
        options.optimizer, rate, options.weight_decay, decays=group.decays
    )
    if isinstance(optimizer, tf_keras.optimizers.Optimizer):
        optimizer.build(group.variables)
    else:
        optimizer._create_all_weights(
            group.variables
        )  # tensorflow-addons' rules are of the older kind
    return optimizer
