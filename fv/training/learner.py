"""What a run trains: the model, the rules that update it, and the averages of its weights."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from fv.model import model_record, siamese
from fv.model.initial_weights import FirstWeights
from fv.model.siamese import Siamese
from fv.preprocessing import Preprocessing
from fv.training import strategy as strategies
from fv.training import teacher as teachers
from fv.training.averaging import Averages
from fv.training.optimizers import Updater, WarmupThenDecay
from fv.training.options import TrainOptions
from fv.training.teacher import Teacher


@dataclasses.dataclass(frozen=True)
class Learner:
    """What a run trains; all variables are made with it, so that a checkpoint restores every one.

    Attributes:
      model: whose weights learn.
      updater: gradients → weights.
      averages: of the weights, None where none are kept.
      teacher: whom the model imitates, None for nobody; it stands still, so a checkpoint holds nothing of it.
    """

    model: Siamese
    updater: Updater
    averages: Averages | None
    teacher: Teacher | None = None

    @property
    def judged(self) -> Siamese:
        """The model that is validated, evaluated and exported."""
        return self.averages.model if self.averages else self.model

    def state(self) -> dict:
        """What a checkpoint holds, by name."""
        averages = dict(averages=self.averages.state) if self.averages else {}
        return dict(model=self.model, optimizer=self.updater) | averages


def build(
    options: TrainOptions,
    schedule: WarmupThenDecay,
    strategy: tf.distribute.Strategy,
    identities: Sequence[str],
    first_weights: FirstWeights | None = None,
    preprocessing: Preprocessing | None = None,
) -> Learner:
    """Builds the learner of a run on those training identities; `first_weights` go into the new model, if there are any.

    `preprocessing` is what was done to the training images before they were stored; None where that is not known. Whom the
    teacher has met is noted in the workdir's model.json.

    Raises:
      UserError: sizes, weights or the teacher do not fit the model, or a choice needs tensorflow-addons.
    """
    with strategy.scope():
        model = _build_model(options, len(identities))
        if first_weights:
            line = first_weights.load(model)
            if strategies.is_chief(strategy):
                print(line, flush=True)
        updater = Updater(
            options.optimization, schedule, model
        )  # after the weights: some rules keep copies of them
        averages = _build_averages(options, model, len(identities))
        teacher = teachers.load(options.teaching, options.model.embedding_size, identities)
    if teacher:
        teachers.check_images(
            teacher.record, options.teaching.teacher, options.model, preprocessing
        )
    if teacher and strategies.is_chief(strategy):
        _note_whom_it_met(teacher, options, identities, preprocessing)
    return Learner(model, updater, averages, teacher)


def _note_whom_it_met(
    teacher: Teacher,
    options: TrainOptions,
    identities: Sequence[str],
    preprocessing: Preprocessing | None,
) -> None:
    """Before the first step, so that no weights of the student are ever without it."""
    record = model_record.describe(options.model, identities, preprocessing)
    model_record.save(model_record.inherit(record, teacher.record), options.workdir)


def _build_averages(options: TrainOptions, model: Siamese, identities: int) -> Averages | None:
    if options.averaging.average_weights == "none":
        return None
    return Averages(options.averaging, options.steps, model, _build_model(options, identities))


def _build_model(options: TrainOptions, identities: int) -> Siamese:
    model = siamese.build_siamese(
        options.model, identities, sync_batch_norm=options.sync_batch_norm
    )
    if options.optimization.freeze_backbone_steps < 0:
        siamese.freeze_backbone(model.encoder)
    return model
