"""What a run trains: the model, its optimizers, the averages of its weights, and its teacher."""

import dataclasses

import tensorflow as tf

from fv.model import model_record, siamese
from fv.model.initial_weights import FirstWeights
from fv.model.model_record import ModelRecord
from fv.model.siamese import Siamese
from fv.pipeline.shards import PairSource
from fv.training import optimizers
from fv.training import strategy as strategies
from fv.training import teacher as teachers
from fv.training.optimizers import Updater, WarmupThenDecay
from fv.training.options import AveragingOptions, TrainOptions
from fv.training.teacher import AnyTeacher

_EMA_MOMENTUM = 0.999  # share of the old average that a step keeps
_SWA_START = 0.75  # share of the run's steps after which the mean begins


@dataclasses.dataclass(frozen=True)
class Learner:
    """What a run trains. All variables exist from the start, so a checkpoint restores every one.

    Attributes:
      model: is trained.
      updater: gradients → weights.
      averages: of the weights, None where none are kept.
      schedule: step → learning rate.
      teacher: the model imitates it; None for no teacher. It is frozen: no checkpoint holds it.
    """

    model: Siamese
    updater: Updater
    averages: "Averages | None"
    schedule: WarmupThenDecay
    teacher: AnyTeacher | None = None

    @property
    def eval_model(self) -> Siamese:
        """The model that is validated, evaluated and exported."""
        return self.averages.model if self.averages else self.model

    def trackables(self) -> dict:
        """What a checkpoint holds, by name."""
        saved = {"model": self.model, "optimizer": self.updater}
        return saved | ({"averages": self.averages.state} if self.averages else {})


def build(
    options: TrainOptions,
    strategy: tf.distribute.Strategy,
    training: PairSource,
    record: ModelRecord,
    first_weights: FirstWeights | None,
) -> Learner:
    """Builds the learner of a run. The chief notes the teacher's training identities in model.json.

    Args:
      options: of the run.
      strategy: in whose scope all variables are made.
      training: the training pairs.
      record: of the model, without what it inherits.
      first_weights: overwrite those of the new model.

    Raises:
      UserError: sizes, weights or the teacher do not fit the model, or a choice needs
        tensorflow-addons.
    """
    chief, identities = strategies.is_chief(strategy), len(training.identities)
    schedule = optimizers.build_schedule(
        options.optimization, options.steps, options.global_batch_size
    )
    averages = None
    with strategy.scope():
        model = _build_model(options, identities)
        if first_weights:
            line = first_weights.load(model)
            if chief:
                print(line, flush=True)
        # After the first weights: Lookahead keeps a copy of them.
        updater = Updater(options.optimization, schedule, model)
        if options.averaging.average_weights != "none":
            averaged = _build_model(options, identities)
            averages = Averages(options.averaging, options.steps, model, averaged)
        teacher = teachers.load(options.teaching, options.model, training)
    if teacher and chief:  # before the first step: weights that imitate are never without this
        model_record.save(teacher.note_in(record), options.workdir)
    return Learner(model, updater, averages, schedule, teacher)


def _build_model(options: TrainOptions, identities: int) -> Siamese:
    model = siamese.build_siamese(
        options.model, identities, sync_batch_norm=options.sync_batch_norm
    )
    if options.optimization.freeze_backbone_steps < 0:
        siamese.freeze_backbone(model.encoder)
    return model


class Averages:
    """A second model that holds the averages of another's weights and BatchNorm statistics.

    tensorflow-addons' MovingAverage and SWA refuse tf_keras's present optimizers, and average
    trainable weights only: the last weights' statistics do not fit averaged weights.

    Attributes:
      model: the averaged model.
      count: int64 variable, number of weights in the averages.
      state: what a checkpoint holds of it.
    """

    def __init__(self, options: AveragingOptions, steps: int, trained: Siamese, model: Siamese):
        """Call it in the strategy's scope.

        Args:
          options: which average; not 'none'.
          steps: of the whole run.
          trained: the model that is trained.
          model: another one, built alike; its weights are overwritten.
        """
        self.model = model
        self.count = tf.Variable(0, trainable=False, dtype=tf.int64, name="count")
        self.state = tf.train.Checkpoint(model=model, count=self.count)
        self._options, self._swa_step = options, int(_SWA_START * steps)
        self._pairs = list(zip(_weights(model), _weights(trained), strict=True))
        for average, weight in self._pairs:
            average.assign(weight)

    def update(self, strategy: tf.distribute.Strategy, step: tf.Tensor, applied: tf.Tensor) -> None:
        """Takes the weights after a step into the averages. Call it outside of the replicas.

        Args:
          strategy: whose replicas hold the weights.
          step: int scalar, the number of steps done, this one included.
          applied: bool scalar; False for a skipped step, which leaves the averages as they are.
        """
        share, counts = self._share(step)
        share = tf.where(applied, share, 0.0)
        for average, weight in self._pairs:
            strategy.extended.update(average, _mix, args=(weight, share))
        self.count.assign_add(tf.cast(tf.logical_and(applied, counts), tf.int64))

    def _share(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(share of the new weights, float32 scalar in [0, 1]; whether they count)."""
        done = tf.cast(self.count, tf.float32)
        if self._options.average_weights == "ema":
            # (1 + t) / (10 + t), as in TensorFlow's moving average, soon forgets the first weights.
            kept = tf.minimum(_EMA_MOMENTUM, (1.0 + done) / (10.0 + done))
            return 1.0 - kept, tf.constant(True)
        begun = tf.cast(step, tf.int64) - self._swa_step >= 0
        return tf.where(begun, 1.0 / (1.0 + done), 1.0), begun


def _mix(average: tf.Variable, weight: tf.Variable, share: tf.Tensor) -> None:
    average.assign((1.0 - share) * average + share * weight)


def _weights(model: Siamese) -> list[tf.Variable]:
    return [*model.encoder.weights, *model.head.variables]
