"""Training steps of a tiny model on small shards, for the tests of all that shapes a step."""

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tf_keras

from fv import manifest
from fv.model import siamese
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese
from fv.pipeline import input_pipeline
from fv.pipeline.augment import AugmentOptions
from fv.pipeline.input_pipeline import PairSource
from fv.pipeline.options import InputOptions
from fv.training import optimizers
from fv.training import strategy as strategies
from fv.training import teacher as teachers
from fv.training.learner import Averages
from fv.training.optimizers import Updater
from fv.training.options import AveragingOptions, OptimizerOptions, TeacherOptions
from fv.training.step import TrainStep
from tests.conftest import TINY

GLOBAL_BATCH = 8
# So little is decoded that threads would cost more than they save.
KERNELS = InputOptions(decoder="tensorflow")
DEFAULTS = OptimizerOptions(learning_rate=1e-2, warmup_steps=0)


def one_device() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("CPU:0")


def two_replicas() -> tf.distribute.Strategy:
    return strategies.mirrored_cpus(2)


@dataclasses.dataclass
class Trainer:
    """A model, its training step, and its stream of batches."""

    model: Siamese
    updater: Updater
    averages: Averages | None
    step: TrainStep
    batches: Iterator
    done: int = 0

    def run(self, steps: int) -> np.ndarray:
        """The losses of the next steps."""
        losses = self.step.run(self.batches, self.done, steps)
        self.done += steps
        return losses

    def skip(self, steps: int) -> None:
        """Skips the batches of steps, as a run that continues from a checkpoint does."""
        for _ in range(steps):
            next(self.batches)
        self.done += steps

    def weights(self) -> dict[str, np.ndarray]:
        """Name, without its layer's number, and place → value, of all weights and statistics."""
        held = [*self.model.encoder.weights, *self.model.head.variables]
        return {
            f"{place} {variable.name.split('/')[-1]}": variable.numpy()
            for place, variable in enumerate(held)
        }


def trainer(
    shards: pathlib.Path,
    strategy: tf.distribute.Strategy | None = None,
    options: OptimizerOptions = DEFAULTS,
    *,
    model: ModelOptions = TINY,
    averaging: AveragingOptions | None = None,
    steps: int = 100,
    sync: bool = False,
    frozen: bool = False,
    augment: bool = False,
    xla: bool = False,
    teacher: str | None = None,
) -> Trainer:
    """A trainer with a fixed seed, under the present precision policy."""
    strategy = strategy or one_device()
    tf_keras.utils.set_random_seed(5)
    with strategy.scope():
        trained = siamese.build_siamese(model, identities=6, sync_batch_norm=sync)
        if frozen:
            siamese.freeze_backbone(trained.encoder)
        updater = Updater(options, optimizers.build_schedule(options, steps, GLOBAL_BATCH), trained)
        averages = (
            Averages(averaging, steps, trained, siamese.build_siamese(model, identities=6))
            if averaging
            else None
        )
        people = manifest.load(str(shards)).split("train").identities
        taught_by = (
            teachers.load_trained(TeacherOptions(teacher), model.embedding_size, people)
            if teacher
            else None
        )
    step = TrainStep(
        strategy,
        trained,
        updater,
        AugmentOptions(augment=augment),
        global_batch_size=GLOBAL_BATCH,
        seed=2,
        averages=averages,
        teacher=taught_by,
        xla=xla,
    )
    return Trainer(
        trained, updater, averages, step, batches(shards, strategy, options.accumulate_steps)
    )


def batches(shards: pathlib.Path, strategy: tf.distribute.Strategy, parts: int = 1) -> Iterator:
    """The distributed training stream."""
    held = manifest.load(str(shards))
    source = PairSource(
        str(shards), held.split("train"), TINY.image_size, 1.0, held.split("train").identities
    )
    size = GLOBAL_BATCH // strategy.num_replicas_in_sync // parts
    return iter(
        strategy.distribute_datasets_from_function(
            lambda _: input_pipeline.training_batches(
                source, batch_size=size, seed=1, shuffle_buffer=16, options=KERNELS
            )
        )
    )
