"""From gradients to new weights: schedule, optimizers, loss scale, update of all replicas."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from fv import addons
from fv.model import backbones
from fv.model.siamese import Siamese
from fv.training.options import OptimizerOptions

SUM = tf.distribute.ReduceOp.SUM
Optimizer = Any  # tf_keras.optimizers.Optimizer, or its legacy namesake for tensorflow-addons' LAMB

_MOMENTUM = 0.9
_BASE_BATCH_SIZE = 256  # pairs in a step for which a scaled learning rate is the given one
# Last parts of variables' names that have no weight decay: biases, and offsets and gains of norms.
_NOT_DECAYED = ("bias", "beta", "gamma")
# tf_keras begins with a loss scale of 2^15. In 200 steps of the tiny backbone the first step then
# overflowed and was skipped, which left the smoothed losses up to 6.3 % off float32's. From 2^12 on
# no step overflows, and they are 0.6 % off.
_INITIAL_SCALE = 2.0**12
_LARGEST_SCALE, _SMALLEST_SCALE = 2.0**24, 1.0
_GROWTH_STEPS = 2000  # in a row without an overflow before the scale doubles


class Updater(tf.Module):
    """All optimizers of a run. Their slots exist from the start: a checkpoint restores every one.

    Attributes:
      options: of the updates.
      loss_scale: of a float16 computation, None for other precisions.
      optimizers: one per group of weights.
    """

    def __init__(self, options: OptimizerOptions, schedule: "WarmupThenDecay", model: Siamese):
        """Call it in the strategy's scope, after the precision policy is set.

        Raises:
          UserError: the choice needs tensorflow-addons, which is not installed.
        """
        super().__init__(name="updater")
        float16 = tf_keras.mixed_precision.global_policy().compute_dtype == "float16"
        self.loss_scale = LossScale() if float16 else None
        self.options = options
        self._groups = split_into_groups(model)
        self.optimizers = [_build_for_group(options, schedule, group) for group in self._groups]

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss whose gradients `apply` takes."""
        return self.loss_scale.scaled(loss) if self.loss_scale else loss

    def apply(self, gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable]) -> tf.Tensor:
        """Updates the weights; call it in each replica.

        Args:
          gradients: float32, this replica's share of the gradients of the scaled loss. The shares
            of all replicas are summed here.
          variables: what they are the gradients of. Other weights and their slots stay as they are.

        Returns:
          bool scalar: False if float16 gradients overflowed, so that only the loss scale changed.
        """
        context = tf.distribute.get_replica_context()
        summed = context.all_reduce(SUM, list(gradients))
        if self.loss_scale is None:
            self._apply(summed, variables)
            return tf.constant(True)
        finite = all_finite(summed)
        unscaled = self.loss_scale.unscaled(summed)
        # Optimizers merge the replicas, which is not allowed under a condition inside of a replica:
        # the condition has to be outside.
        update = self._update_if_finite(self.loss_scale, variables)
        return context.merge_call(update, args=(finite, unscaled))

    def _update_if_finite(
        self, loss_scale: "LossScale", variables: Sequence[tf.Variable]
    ) -> Callable:
        def update_if_finite(
            strategy: tf.distribute.Strategy, finite: tf.Tensor, gradients: list[tf.Tensor]
        ) -> tf.Tensor:
            finite = strategy.experimental_local_results(finite)[0]

            def update() -> tf.Tensor:
                strategy.run(lambda each: self._apply(each, variables), args=(gradients,))
                return tf.constant(True)

            def skip() -> tf.Tensor:
                for optimizer, _ in self._with_gradients(gradients, variables):
                    optimizer.iterations.assign_add(1)  # the schedule advances all the same
                return tf.constant(False)

            applied = tf.cond(finite, update, skip)
            loss_scale.update(finite)
            return applied

        return update_if_finite

    def _apply(self, gradients: list[tf.Tensor], variables: Sequence[tf.Variable]) -> None:
        if self.options.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.options.clip_norm)
        for optimizer, pairs in self._with_gradients(gradients, variables):
            optimizer.apply_gradients(pairs, experimental_aggregate_gradients=False)

    def _with_gradients(
        self, gradients: list[tf.Tensor], variables: Sequence[tf.Variable]
    ) -> list[tuple[Optimizer, list]]:
        """The optimizers of groups that have gradients, with (gradient, variable) pairs."""
        by_variable = {
            variable.ref(): gradient
            for gradient, variable in zip(gradients, variables, strict=True)
        }
        found = []
        for optimizer, group in zip(self.optimizers, self._groups, strict=True):
            trained = [each for each in group.variables if each.ref() in by_variable]
            if trained:
                found.append((optimizer, [(by_variable[each.ref()], each) for each in trained]))
        return found


@dataclasses.dataclass(frozen=True)
class WeightGroup:
    """Weights with one learning rate and one weight decay."""

    of_backbone: bool
    decays: bool
    variables: tuple[tf.Variable, ...]


def split_into_groups(model: Siamese) -> list[WeightGroup]:
    """Splits the trainable weights into up to four groups; each has at least one weight."""
    backbone_layer = model.encoder.get_layer(backbones.NAME)
    backbone = {variable.ref() for variable in backbone_layer.trainable_variables}
    groups = []
    for of_backbone, decays in itertools.product((True, False), repeat=2):
        variables = tuple(
            each
            for each in model.trainable_variables
            if (each.ref() in backbone) == of_backbone and has_weight_decay(each) == decays
        )
        if variables:
            groups.append(WeightGroup(of_backbone, decays, variables))
    return groups


def has_weight_decay(variable: tf.Variable) -> bool:
    """Whether weight decay acts on a variable: on all but biases and norms."""
    return variable.name.split("/")[-1].split(":")[0] not in _NOT_DECAYED


def _build_for_group(
    options: OptimizerOptions, schedule: "WarmupThenDecay", group: WeightGroup
) -> Optimizer:
    """The group's optimizer, with its slots."""
    rate: tf_keras.optimizers.schedules.LearningRateSchedule = schedule
    if group.of_backbone:
        frozen_steps = max(options.freeze_backbone_steps, 0)
        rate = ScheduleFactor(schedule, options.backbone_learning_rate, frozen_steps)
    optimizer = build_optimizer(options.optimizer, rate, options.weight_decay, decays=group.decays)
    if isinstance(optimizer, tf_keras.optimizers.Optimizer):
        optimizer.build(group.variables)
    else:  # of the older kind, from tensorflow-addons
        optimizer._create_all_weights(group.variables)
    return optimizer


def build_optimizer(
    name: str,
    schedule: tf_keras.optimizers.schedules.LearningRateSchedule,
    weight_decay: float,
    *,
    decays: bool,
) -> Optimizer:
    """Builds the optimizer of one group of weights.

    Args:
      name: one of `options.OPTIMIZERS`.
      schedule: the group's learning rate.
      weight_decay: decoupled decay.
      decays: False for biases and norms: no decay, and LAMB does not scale by their norms either.

    Raises:
      UserError: the choice needs tensorflow-addons, which is not installed.
    """
    decay = weight_decay if decays else 0.0
    if name == "lamb":
        return addons.lamb(schedule, decay, adapts_layers=decays)
    if name == "radam":
        return addons.rectified_adam_lookahead(schedule, decay)
    # The decay of tf_keras' optimizers is decoupled.
    if name == "sgd":
        return NesterovSGD(
            schedule, _MOMENTUM, nesterov=True, weight_decay=decay or None, jit_compile=False
        )
    return tf_keras.optimizers.Adam(schedule, weight_decay=decay or None, jit_compile=False)


class NesterovSGD(tf_keras.optimizers.SGD):
    """tf_keras' SGD; one op applies a dense gradient and its momentum.

    The many ops of tf_keras each pass over all weights. On a CPU the results are equal, bit by bit.
    """

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Overrides tf_keras: updates a weight and its momentum in place."""
        if isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._index_dict[self._var_key(variable)]].handle,
            lr=tf.cast(self.learning_rate, variable.dtype),
            grad=gradient,
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )


class WarmupThenDecay(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to the peak, then stays, or falls along half a cosine to 0."""

    def __init__(self, peak: float, warmup_steps: int, steps: int, decay: str):
        self._peak, self._warmup_steps, self._steps, self._decay = peak, warmup_steps, steps, decay

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """The learning rate of the update after `step` others, float32 scalar."""
        step = tf.cast(step, tf.float32)
        rate = self._peak * tf.minimum(1.0, (step + 1.0) / max(self._warmup_steps, 1))
        if self._decay == "cosine":
            done = (step - self._warmup_steps) / max(self._steps - self._warmup_steps, 1)
            rate *= 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0)))
        return rate

    def get_config(self) -> dict:
        names = ("peak", "warmup_steps", "steps", "decay")
        return {name: getattr(self, f"_{name}") for name in names}


class ScheduleFactor(tf_keras.optimizers.schedules.LearningRateSchedule):
    """`factor` times a run's schedule, for an optimizer that begins after `start` steps."""

    def __init__(self, schedule: WarmupThenDecay, factor: float, start: int):
        self._schedule, self._factor, self._start = schedule, factor, start

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        return self._factor * self._schedule(step + self._start)

    def get_config(self) -> dict:
        return {"schedule": self._schedule, "factor": self._factor, "start": self._start}


def build_schedule(
    options: OptimizerOptions, steps: int, global_batch_size: int
) -> WarmupThenDecay:
    """The learning rate of a run of so many steps of so many pairs.

    Linear scaling: Goyal et al., Accurate, Large Minibatch SGD, 2017. By the root, usual with LAMB:
    You et al., Large Batch Optimization for Deep Learning, 2019.
    """
    ratio = global_batch_size / _BASE_BATCH_SIZE
    peak = (
        options.learning_rate
        * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[options.scale_learning_rate]
    )
    return WarmupThenDecay(peak, options.warmup_steps, steps, options.decay)


class LossScale(tf.Module):
    """A factor on the loss that keeps gradients within float16's range.

    It halves where gradients overflow, and doubles after many steps in which none did. Source:
    Micikevicius et al., Mixed Precision Training, 2018. tf_keras' LossScaleOptimizer wraps one
    optimizer; here several share one scale, so that a step reaches all groups of weights or none.
    """

    def __init__(self, initial: float = _INITIAL_SCALE, growth_steps: int = _GROWTH_STEPS):
        super().__init__(name="loss_scale")
        self.scale = tf.Variable(initial, trainable=False, dtype=tf.float32, name="scale")
        self.good_steps = tf.Variable(0, trainable=False, dtype=tf.int64, name="good_steps")
        self._growth_steps = growth_steps

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The float32 loss whose gradients are `scale` times as large."""
        return loss * self.scale

    def unscaled(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The gradients of the loss itself, float32."""
        return [gradient / self.scale for gradient in gradients]

    def update(self, finite: tf.Tensor) -> None:
        """Counts a step, `finite` if its gradients were; call it outside of the replicas."""
        grows = self.good_steps + 1 >= self._growth_steps
        raised = tf.where(grows, tf.minimum(2.0 * self.scale, _LARGEST_SCALE), self.scale)
        scale = tf.where(finite, raised, tf.maximum(self.scale / 2.0, _SMALLEST_SCALE))
        good_steps = tf.where(tf.logical_and(finite, tf.logical_not(grows)), self.good_steps + 1, 0)
        self.scale.assign(scale)
        self.good_steps.assign(good_steps)


def all_finite(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """Whether no gradient holds an infinity or a NaN, bool scalar."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
