"""The learning rate as a function of the step."""

import math

import tensorflow as tf
import tf_keras

from fv.training.updates.optimizer_options import OptimizerOptions

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


class Part(tf_keras.optimizers.schedules.LearningRateSchedule):
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
