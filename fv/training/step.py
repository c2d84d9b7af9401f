"""The training step: several of them in one host call, on every replica. It knows nothing of the loop around it."""

import contextlib
import time
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from fv.errors import UserError
from fv.model import backbones, siamese
from fv.model.siamese import Siamese
from fv.pipeline import augment
from fv.pipeline.augment import AugmentOptions
from fv.training import feeding
from fv.training.averaging import Averages
from fv.training.feeding import StallMeter
from fv.training.optimizers import SUM, Updater
from fv.training.teacher import Teacher

# A backbone that stands still in a run's first steps and then learns with the rest.


def split_at_unfreezing(
    first_step: int, steps: int, frozen_steps: int
) -> list[tuple[int, int, bool]]:
    """Splits steps where the backbone begins to learn: one or two of (first step, number of steps, backbone frozen)."""
    frozen = min(max(frozen_steps - first_step, 0), steps)
    both = [(first_step, frozen, True), (first_step + frozen, steps - frozen, False)]
    return [stage for stage in both if stage[1]]


@contextlib.contextmanager
def frozen_backbone(model: Siamese, frozen: bool) -> Iterator[None]:
    """While it lasts, graphs are traced with a backbone that is frozen: no gradients, and BatchNorm by its statistics."""
    backbone = model.encoder.get_layer(backbones.NAME)
    learns = backbone.trainable  # not under --freeze_backbone_steps=-1
    backbone.trainable = learns and not frozen
    try:
        yield
    finally:
        backbone.trainable = learns


# Gradients summed over the parts of a batch, on each replica.


class Accumulators:
    """One float32 sum per weight and replica; all are zero between steps, so a checkpoint needs none of them."""

    def __init__(self, variables: Sequence[tf.Variable]):
        """Call it in the strategy's scope."""
        local = dict(
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )
        self._sums = {
            each.ref(): tf.Variable(tf.zeros(each.shape), trainable=False, **local)
            for each in variables
        }

    def add(self, gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable]) -> None:
        """Adds the gradients of one part; to be called in each replica."""
        for gradient, variable in zip(gradients, variables, strict=True):
            self._sums[variable.ref()].assign_add(gradient)

    def take(self, variables: Sequence[tf.Variable]) -> list[tf.Tensor]:
        """This replica's sums, which are zero again from then on."""
        sums = [self._sums[variable.ref()] for variable in variables]
        taken = [each.read_value() for each in sums]
        with tf.control_dependencies(taken):
            for each in sums:
                each.assign(tf.zeros_like(each))
        return taken


# XLA for the step (--xla): where it does not work, one line says so.

_MARKS = ("XLA", "JIT compil")  # one of them is in the message of whatever XLA refuses


def check_compilable(strategy: tf.distribute.Strategy, model: Siamese) -> None:
    """Checks what is known not to compile.

    Raises:
      UserError: BatchNorm is synchronised, which merges the replicas in the middle of what is compiled.
    """
    synchronised = any(
        getattr(layer, "synchronized", False)
        for layer in model.encoder.get_layer(backbones.NAME).layers
    )
    if synchronised and strategy.num_replicas_in_sync > 1:
        raise UserError(
            "--xla does not compile --sync_batch_norm over several replicas: leave one of them out"
        )


@contextlib.contextmanager
def explain_xla_errors() -> Iterator[None]:
    """Turns what XLA says of a step that it does not compile into one line.

    Raises:
      UserError: XLA does not compile the step.
    """
    try:
        yield
    except tf.errors.OpError as error:
        said = [
            line.strip() for line in str(error).splitlines() if any(mark in line for mark in _MARKS)
        ]
        if not said:
            raise
        raise UserError(f"--xla does not compile this step: leave it out ({said[0]})") from error


# Loss and gradients of one replica's part of a batch: augment, embed, compare, differentiate.

_IMAGES_PER_PAIR = 2


class Gradients:
    """Computes what one replica adds to a step."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: Siamese,
        updater: Updater,
        augmentation: AugmentOptions,
        *,
        global_batch_size: int,
        parts: int,
        seed: int,
        teacher: Teacher | None,
        xla: bool,
    ):
        self._strategy, self._model, self._updater, self._augmentation = (
            strategy,
            model,
            updater,
            augmentation,
        )
        self._global_batch_size, self._parts, self._seed = global_batch_size, parts, seed
        self._teacher, self._xla = teacher, xla

    def compute(
        self, batch: dict[str, tf.Tensor], step: tf.Tensor, part: tf.Tensor | int
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The part's share of the step's loss, float32 scalar, and of the gradients of the scaled loss.

        Args:
          batch: this replica's pairs (see `fv.pipeline.input_pipeline`).
          step: int scalar, the steps done before.
          part: which of the step's parts this is.
        """
        images = self._augment(batch["images"], step, part)
        # Augmentation stays outside: XLA has no kernel for TensorFlow's resampling ops.
        differentiate = self._differentiate
        if self._xla:
            differentiate = tf.function(differentiate, jit_compile=True, autograph=False)
        moment = tf.stack([self._seed, tf.cast(step, tf.int32)])
        taught = self._teacher.embed(images) if self._teacher else None
        pairs = images, batch["label"], batch["identities"], batch["valid"]
        return differentiate(*pairs, moment, self._first_row(part), taught)

    def _differentiate(
        self, images, label, identities, valid, moment, first_row, taught
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with (
            tf.GradientTape() as tape,
            siamese.seeded_dropout(self._model.encoder, moment, first_row),
        ):
            embeddings = self._model.embed_pairs(images, training=True)
            losses = self._model.head.pair_losses(embeddings, label, identities, moment)
            if self._teacher:
                losses += self._teacher.losses(embeddings, taught)
            losses = tf.where(valid, losses, 0.0)  # a skipped record's place counts for nothing
            loss = (
                tf.reduce_sum(losses) / self._global_batch_size
            )  # replicas' and parts' gradients are summed
            objective = self._updater.scaled(loss)
        return loss, tape.gradient(objective, self._model.trainable_variables)

    def _augment(self, images: tf.Tensor, step: tf.Tensor, part: tf.Tensor | int) -> tf.Tensor:
        draws = augment.draw_randomness(
            self._augmentation, self._global_batch_size * _IMAGES_PER_PAIR, self._seed, step
        )
        side = self._model.encoder.input_shape[1]
        if draws is None:
            return augment.resize(images, side)
        count = self._count
        rows = tf.slice(draws, (self._first_row(part), 0), (count, draws.shape[1]))
        augmented = augment.augment(
            tf.reshape(images, (count, *images.shape[2:])), rows, self._augmentation, side
        )
        return tf.reshape(augmented, (-1, images.shape[1], *augmented.shape[1:]))

    def _first_row(self, part: tf.Tensor | int) -> tf.Tensor:
        """The first of this replica's images in that part, among those of the global batch."""
        place = (
            part * self._strategy.num_replicas_in_sync
            + tf.distribute.get_replica_context().replica_id_in_sync_group
        )
        return place * self._count

    @property
    def _count(self) -> int:
        """Images in a replica's share of a part."""
        return (
            self._global_batch_size
            * _IMAGES_PER_PAIR
            // (self._strategy.num_replicas_in_sync * self._parts)
        )


# AutoGraph rewrites loops over tensors; to look for them in all that a step calls took half of a run's first step.
_without_loops = tf.autograph.experimental.do_not_convert


class TrainStep:
    """Runs training steps of a model under a strategy."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: Siamese,
        updater: Updater,
        augmentation: AugmentOptions,
        *,
        global_batch_size: int,
        seed: int,
        averages: Averages | None = None,
        teacher: Teacher | None = None,
        xla: bool = False,
    ):
        """Raises UserError where XLA is known not to compile the step."""
        if xla:
            check_compilable(strategy, model)
        self._xla = xla
        self._strategy, self._model, self._updater, self._averages = (
            strategy,
            model,
            updater,
            averages,
        )
        self._parts, self._frozen_steps = (
            updater.options.accumulate_steps,
            updater.options.freeze_backbone_steps,
        )
        sizes = dict(global_batch_size=global_batch_size, parts=self._parts)
        self._gradients = Gradients(
            strategy, model, updater, augmentation, **sizes, seed=seed, teacher=teacher, xla=xla
        )
        with strategy.scope():
            self._sums = Accumulators(model.trainable_variables) if self._parts > 1 else None
        self.meter = StallMeter()

    def run(self, batches: Iterator, first_step: int, steps: int) -> np.ndarray:
        """Runs `steps` steps; the host waits once, at their end.

        Args:
          batches: iterator of a dataset that the strategy distributes (see `fv.pipeline.input_pipeline`), of images of any
            one side: the step brings them to the model's. A step takes as many batches as it has parts.
          first_step: number of steps done before.
          steps: how many to run.

        Returns:
          float32 [steps], the mean loss of each step's global batch, before its update; `meter` has counted the wait.
        """
        stages = split_at_unfreezing(first_step, steps, self._frozen_steps)
        with explain_xla_errors() if self._xla else contextlib.nullcontext():
            return np.concatenate([self._run(batches, *stage) for stage in stages])

    def _run(self, batches: Iterator, first_step: int, steps: int, frozen: bool) -> np.ndarray:
        losses, waited, began = self._steps(
            batches, tf.constant(first_step), tf.constant(steps), frozen
        )
        losses = losses.numpy()
        self.meter.add(float(waited), time.time() - float(began))
        return losses

    @tf.function(reduce_retracing=True)
    def _steps(
        self, batches: Iterator, first_step: tf.Tensor, steps: tf.Tensor, frozen: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """(losses; seconds in which the device had no batch; when the first step began, in seconds of the clock).

        A Python bool, `frozen` makes one graph of each stage.
        """
        losses = tf.TensorArray(tf.float32, steps)
        loss, waited, began = (
            tf.constant(0.0),
            tf.constant(0.0, tf.float64),
            feeding.host_clock(first_step),
        )
        with frozen_backbone(self._model, frozen):
            for index in tf.range(steps):
                loss, late = self._step(batches, first_step + index, loss)
                waited += late
                losses = losses.write(index, loss)
        return losses.stack(), waited, began

    def _step(
        self, batches: Iterator, step: tf.Tensor, before: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """(loss; seconds in which the device had no batch) of one step; `before` is the loss of the last one."""
        if self._parts == 1:
            batch, waited = _next(batches, before)
            per_replica, applied = self._strategy.run(self._replica_step, args=(batch, step))
            loss = self._strategy.reduce(SUM, per_replica, axis=None)
        else:
            loss, waited = self._accumulate(batches, step, before)
            applied = self._strategy.run(self._replica_update)
        if self._averages:
            self._averages.update(
                self._strategy, step + 1, self._strategy.experimental_local_results(applied)[0]
            )
        return loss, waited

    def _accumulate(
        self, batches: Iterator, step: tf.Tensor, before: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `_step`, without the update; a loop, not one graph of all parts, so that no two are in memory at once."""
        total, loss, waited = tf.constant(0.0), before, tf.constant(0.0, tf.float64)
        for part in tf.range(self._parts):
            batch, late = _next(batches, loss)
            loss = self._strategy.reduce(
                SUM, self._strategy.run(self._replica_part, args=(batch, step, part)), axis=None
            )
            total += loss
            waited += late
        return total, waited

    @_without_loops
    def _replica_step(
        self, batch: dict[str, tf.Tensor], step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        loss, gradients = self._gradients.compute(batch, step, 0)
        return loss, self._updater.apply(gradients, self._model.trainable_variables)

    @_without_loops
    def _replica_part(
        self, batch: dict[str, tf.Tensor], step: tf.Tensor, part: tf.Tensor
    ) -> tf.Tensor:
        loss, gradients = self._gradients.compute(batch, step, part)
        self._sums.add(gradients, self._model.trainable_variables)
        return loss

    @_without_loops
    def _replica_update(self) -> tf.Tensor:
        variables = self._model.trainable_variables
        return self._updater.apply(self._sums.take(variables), variables)


@_without_loops
def _next(batches: Iterator, before: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """The next batch, and by how many seconds it comes after the loss of the step before it, 0 where it comes before.

    Neither clock waits for the other: with one thread for all ops the second would be read behind the step that the batch
    is for. Nor does the device wait for the host to look at them.
    """
    batch = next(batches)
    came = feeding.host_clock(*tf.nest.flatten(batch, expand_composites=True))
    return batch, tf.nn.relu(came - feeding.host_clock(before))
