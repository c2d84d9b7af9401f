"""Learning-rate schedule and optimizer."""

import math

import tensorflow as tf
import tf_keras

from fv import addons
from fv.training.options import OptimizerOptions

_NOT_DECAYED = ["bias", "beta", "gamma"]  # parts of variable names: biases and norms
_MOMENTUM = 0.9


class WarmupThenDecay(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to the peak over `warmup_steps`, then stays, or falls along half a cosine to 0 at `steps`."""

    def __init__(self, peak: float, warmup_steps: int, steps: int, decay: str):
        self._peak, self._warmup_steps, self._steps, self._decay = peak, warmup_steps, steps, decay

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        warmup = tf.minimum(1.0, (step + 1.0) / max(self._warmup_steps, 1))
        if self._decay == "constant":
            return self._peak * warmup
        done = (step - self._warmup_steps) / max(self._steps - self._warmup_steps, 1)
        return self._peak * warmup * 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0)))

    def get_config(self) -> dict:
        return {"peak": self._peak, "warmup_steps": self._warmup_steps, "steps": self._steps, "decay": self._decay}


def build_schedule(options: OptimizerOptions, steps: int) -> WarmupThenDecay:
    """The learning rate as a function of the step, for a run of that many steps."""
    return WarmupThenDecay(options.learning_rate, options.warmup_steps, steps, options.decay)


def build_optimizer(options: OptimizerOptions, schedule: WarmupThenDecay) -> tf_keras.optimizers.Optimizer:
    """Builds the optimizer; under a float16 policy it scales the loss and skips steps whose gradients overflow.

    Raises:
      UserError: the choice needs tensorflow-addons, which is not installed.
    """
    optimizer = _BUILDERS[options.optimizer](options, schedule)
    if tf_keras.mixed_precision.global_policy().compute_dtype == "float16":
        return tf_keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


def _adamw(options: OptimizerOptions, schedule: WarmupThenDecay) -> tf_keras.optimizers.Optimizer:
    optimizer = tf_keras.optimizers.AdamW(schedule, options.weight_decay, global_clipnorm=options.clip_norm or None)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return optimizer


def _sgd(options: OptimizerOptions, schedule: WarmupThenDecay) -> tf_keras.optimizers.Optimizer:
    optimizer = tf_keras.optimizers.SGD(
        schedule,
        momentum=_MOMENTUM,
        nesterov=True,
        weight_decay=options.weight_decay,
        global_clipnorm=options.clip_norm or None,
    )
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return optimizer


def _lamb(options: OptimizerOptions, schedule: WarmupThenDecay) -> tf_keras.optimizers.Optimizer:
    return addons.lamb(schedule, options.weight_decay, exclude_from_weight_decay=_NOT_DECAYED)


def _radam(options: OptimizerOptions, schedule: WarmupThenDecay) -> tf_keras.optimizers.Optimizer:
    return addons.rectified_adam_lookahead(schedule, options.weight_decay)


_BUILDERS = {"adamw": _adamw, "sgd": _sgd, "lamb": _lamb, "radam": _radam}
