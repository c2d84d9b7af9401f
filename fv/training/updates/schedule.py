"""The learning rate as a function of the step."""

import math
from collections.abc import Sequence

import tensorflow as tf
import tf_keras

from fv.errors import UserError
from fv.training.updates.optimizer_options import OptimizerOptions


class WarmupThenDecay(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to the peak over the warm-up, then stays, falls along half a cosine to 0, or falls in stairs."""

    def __init__(
        self, peak: float, warmup_steps: int, steps: int, decay: str, decay_at: Sequence[int] = (), decay_by: float = 1.0
    ):
        self._peak, self._warmup_steps, self._steps, self._decay = peak, warmup_steps, steps, decay
        self._decay_at, self._decay_by = tuple(decay_at), decay_by

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """The rate of the update that follows `step` others, float32 scalar."""
        step = tf.cast(step, tf.float32)
        warmup = tf.minimum(1.0, (step + 1.0) / max(self._warmup_steps, 1))
        return self._peak * warmup * self._decayed(step)

    def get_config(self) -> dict:
        names = ("peak", "warmup_steps", "steps", "decay", "decay_at", "decay_by")
        return {name: getattr(self, f"_{name}") for name in names}

    def _decayed(self, step: tf.Tensor) -> tf.Tensor | float:
        if self._decay == "cosine":
            done = (step - self._warmup_steps) / max(self._steps - self._warmup_steps, 1)
            return 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0)))
        if self._decay == "piecewise":
            return self._decay_by ** tf.reduce_sum(tf.cast(step >= tf.constant(self._decay_at, tf.float32), tf.float32))
        return 1.0


class Part(tf_keras.optimizers.schedules.LearningRateSchedule):
    """The schedule of one group of weights: `factor` times the run's, for an optimizer that starts at step `start`."""

    def __init__(self, whole: tf_keras.optimizers.schedules.LearningRateSchedule, factor: float, start: int):
        self._whole, self._factor, self._start = whole, factor, start

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        return self._factor * self._whole(step + self._start)

    def get_config(self) -> dict:
        return {"whole": self._whole, "factor": self._factor, "start": self._start}


def build_schedule(options: OptimizerOptions, steps: int, global_batch_size: int) -> WarmupThenDecay:
    """The learning rate of a run of that many steps of that many pairs.

    Linear scaling is Goyal et al., Accurate, Large Minibatch SGD, 2017; the root is usual with LAMB (You et al. 2019).

    Raises:
      UserError: the steps of a piecewise decay are no ascending numbers.
    """
    ratio = global_batch_size / options.base_batch_size
    peak = options.learning_rate * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[options.scale_learning_rate]
    decay_at = _steps_of(options.decay_at) if options.decay == "piecewise" else ()
    return WarmupThenDecay(peak, options.warmup_steps, steps, options.decay, decay_at, options.decay_by)


def _steps_of(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    steps = tuple(int(part) for part in parts if part.isdecimal())
    if len(steps) != len(parts) or list(steps) != sorted(set(steps)):
        raise UserError(f"--decay=piecewise needs ascending steps, such as --decay_at=6000,8000, and not '{text}'")
    return steps
