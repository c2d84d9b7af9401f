"""Groups of weights that share a learning rate and a weight decay."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras

from fv import addons
from fv.model import backbones
from fv.model.siamese import Siamese
from fv.training.options import OptimizerOptions

_NOT_DECAYED = (
    "bias",
    "beta",
    "gamma",
)  # last parts of variables' names: biases, and the offsets and gains of norms


@dataclasses.dataclass(frozen=True)
class WeightGroup:
    """Weights that are updated alike: of the backbone or above it, decayed or not."""

    of_backbone: bool
    decays: bool
    variables: tuple[tf.Variable, ...]


def split_into_groups(model: Siamese) -> list[WeightGroup]:
    """Splits the model's trainable weights into up to four groups; those of a frozen backbone are in none."""
    backbone = {
        variable.ref() for variable in model.encoder.get_layer(backbones.NAME).trainable_variables
    }

    def matches(variable: tf.Variable, of_backbone: bool, decayed: bool) -> bool:
        return (variable.ref() in backbone) == of_backbone and has_weight_decay(variable) == decayed

    kinds = itertools.product((True, False), repeat=2)
    found = [
        WeightGroup(
            *kind, tuple(each for each in model.trainable_variables if matches(each, *kind))
        )
        for kind in kinds
    ]
    return [group for group in found if group.variables]


def has_weight_decay(variable: tf.Variable) -> bool:
    """Whether weight decay acts on it: on all but biases and norms."""
    return variable.name.split("/")[-1].split(":")[0] not in _NOT_DECAYED


# The learning rate as a function of the step.

_BASE_BATCH_SIZE = 256  # pairs in a step at which a scaled learning rate is the one that is given


class WarmupThenDecay(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to the peak over the warm-up, then stays, or falls along half a cosine to 0."""

    def __init__(self, peak: float, warmup_steps: int, steps: int, decay: str):
        self._peak, self._warmup_steps, self._steps, self._decay = peak, warmup_steps, steps, decay

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """The rate of the update that follows `step` others, float32 scalar."""
        step = tf.cast(step, tf.float32)
        warmup = tf.minimum(1.0, (step + 1.0) / max(self._warmup_steps, 1))
        return self._peak * warmup * self._decayed(step)

    def get_config(self) -> dict:
        names = ("peak", "warmup_steps", "steps", "decay")
        return {name: getattr(self, f"_{name}") for name in names}

    def _decayed(self, step: tf.Tensor) -> tf.Tensor | float:
        if self._decay == "cosine":
            done = (step - self._warmup_steps) / max(self._steps - self._warmup_steps, 1)
            return 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0)))
        return 1.0


class ScheduleFactor(tf_keras.optimizers.schedules.LearningRateSchedule):
    """The schedule of one group of weights: `factor` times the run's, for an optimizer that starts at step `start`."""

    def __init__(
        self, whole: tf_keras.optimizers.schedules.LearningRateSchedule, factor: float, start: int
    ):
        self._whole, self._factor, self._start = whole, factor, start

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        return self._factor * self._whole(step + self._start)

    def get_config(self) -> dict:
        return {"whole": self._whole, "factor": self._factor, "start": self._start}


def build_schedule(
    options: OptimizerOptions, steps: int, global_batch_size: int
) -> WarmupThenDecay:
    """The learning rate of a run of that many steps of that many pairs.

    Linear scaling is Goyal et al., Accurate, Large Minibatch SGD, 2017; the root is usual with LAMB (You et al. 2019).
    """
    ratio = global_batch_size / _BASE_BATCH_SIZE
    peak = (
        options.learning_rate
        * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[options.scale_learning_rate]
    )
    return WarmupThenDecay(peak, options.warmup_steps, steps, options.decay)


# Dynamic loss scale: keeps the gradients of a float16 computation within float16's range.

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


# The update rules, each for one group of weights that share rate and decay.

_MOMENTUM = 0.9

Optimizer = tf_keras.optimizers.Optimizer | tf_keras.optimizers.legacy.Optimizer
Schedule = tf_keras.optimizers.schedules.LearningRateSchedule


def build_optimizer(
    name: str, schedule: Schedule, weight_decay: float, *, decays: bool
) -> Optimizer:
    """Builds the rule of that name for one group of weights.

    Args:
      name: one of `optimizer_options.OPTIMIZERS`.
      schedule: the group's learning rate.
      weight_decay: decoupled decay.
      decays: False for a group of biases and norms: no decay, and LAMB leaves its ratio of norms out too.

    Raises:
      UserError: the choice needs tensorflow-addons, which is not installed.
    """
    return _BUILDERS[name](schedule, weight_decay if decays else 0.0, decays)


def _adamw(schedule: Schedule, weight_decay: float, decays: bool) -> Optimizer:
    del decays
    return tf_keras.optimizers.Adam(
        schedule, weight_decay=weight_decay or None, jit_compile=False
    )  # decays decoupled


def _sgd(schedule: Schedule, weight_decay: float, decays: bool) -> Optimizer:
    del decays
    return tf_keras.optimizers.SGD(
        schedule, _MOMENTUM, True, weight_decay=weight_decay or None, jit_compile=False
    )


def _lamb(schedule: Schedule, weight_decay: float, decays: bool) -> Optimizer:
    return addons.lamb(schedule, weight_decay, adapts_layers=decays)


def _radam(schedule: Schedule, weight_decay: float, decays: bool) -> Optimizer:
    del decays
    return addons.rectified_adam_lookahead(schedule, weight_decay)


_BUILDERS = {"adamw": _adamw, "sgd": _sgd, "lamb": _lamb, "radam": _radam}


# From the gradients of all replicas to new weights: sum, unscale, clip, one update rule per group
# of weights.

SUM = tf.distribute.ReduceOp.SUM


class Updater(tf.Module):
    """All of a run's update rules, with their slots made when it is: a checkpoint restores every one of them.

    Attributes:
      options: what the run was told of its updates.
      loss_scale: of a float16 computation, None for other precisions.
      optimizers: one per group of weights.
    """

    def __init__(self, options: OptimizerOptions, whole: WarmupThenDecay, model: Siamese):
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
        self._groups = split_into_groups(model)
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
        finite = all_finite(gradients)
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
    ) -> list[tuple[Optimizer, list]]:
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


def _build(options: OptimizerOptions, whole: WarmupThenDecay, group: WeightGroup) -> Optimizer:
    """The group's update rule, its slots included."""
    rate = whole
    if group.of_backbone:
        still = max(options.freeze_backbone_steps, 0)
        rate = ScheduleFactor(whole, options.backbone_learning_rate, still)
    optimizer = build_optimizer(options.optimizer, rate, options.weight_decay, decays=group.decays)
    if isinstance(optimizer, tf_keras.optimizers.Optimizer):
        optimizer.build(group.variables)
    else:
        optimizer._create_all_weights(
            group.variables
        )  # tensorflow-addons' rules are of the older kind
    return optimizer
