"""Averages of the weights over the steps, which are validated, evaluated and exported in place of the last weights.

tensorflow-addons' MovingAverage and SWA refuse tf_keras's present optimizers ("optimizer is not an object of
tf.keras.optimizers.legacy.Optimizer"), so neither AdamW nor SGD with decoupled decay can use them; both keep trainable
weights only, and BatchNorm's statistics of the last weights do not fit averaged weights.
"""

import tensorflow as tf

from fv.model.siamese import Siamese
from fv.training.options import AveragingOptions

_EMA_MOMENTUM = 0.999  # share of the old average that a step keeps
_SWA_START = (
    0.75  # share of the run's steps after which the mean begins; until then it is the last weights
)


class Averages:
    """A second model that holds the averages of another's weights and, by the same rule, of its BatchNorm statistics.

    Attributes:
      model: the averaged model, ready to embed and to score.
      count: int64 variable, how many weights the averages are of.
      state: what a checkpoint has to hold of it.
    """

    def __init__(self, options: AveragingOptions, steps: int, weights_of: Siamese, model: Siamese):
        """Call it in the strategy's scope.

        Args:
          options: which average; not 'none'.
          steps: of the whole run.
          weights_of: the model that is trained.
          model: another one, built alike; its weights are overwritten.
        """
        self.model = model
        self.count = tf.Variable(0, trainable=False, dtype=tf.int64, name="count")
        self.state = tf.train.Checkpoint(model=model, count=self.count)
        self._options, self._first_step = options, int(_SWA_START * steps)
        self._pairs = list(zip(_weights(model), _weights(weights_of), strict=True))
        for average, weight in self._pairs:
            average.assign(weight)

    def update(self, strategy: tf.distribute.Strategy, step: tf.Tensor, applied: tf.Tensor) -> None:
        """Takes the weights after a step into the averages; to be called outside the replicas.

        Args:
          strategy: whose replicas hold the weights.
          step: int scalar, the number of steps done, this one included.
          applied: bool scalar, False where the step was skipped: then the averages stay as they are.
        """
        share, counts = self._share(step)
        share = tf.where(applied, share, 0.0)
        for average, weight in self._pairs:
            strategy.extended.update(average, _mix, args=(weight, share))
        self.count.assign_add(tf.cast(tf.logical_and(applied, counts), tf.int64))

    def _share(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(share of the new weights in the averages, float32 in [0, 1]; whether they count)."""
        done = tf.cast(self.count, tf.float32)
        if self._options.average_weights == "ema":
            # Starts from the first weights, which (1 + t) / (10 + t), as in TensorFlow's own moving average, soon forgets.
            return 1.0 - tf.minimum(_EMA_MOMENTUM, (1.0 + done) / (10.0 + done)), tf.constant(True)
        since = tf.cast(step, tf.int64) - self._first_step
        begun = since >= 0
        return tf.where(begun, 1.0 / (1.0 + done), 1.0), begun


def _mix(average: tf.Variable, weight: tf.Variable, share: tf.Tensor) -> None:
    average.assign((1.0 - share) * average + share * weight)


def _weights(model: Siamese) -> list[tf.Variable]:
    return [*model.encoder.weights, *model.head.variables]
