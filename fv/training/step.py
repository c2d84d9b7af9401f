"""The whole training step: augmentation, forward pass, loss, gradients, accumulation, update.

One host call runs several steps on every replica.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from fv import record
from fv.errors import UserError
from fv.model import backbones, siamese
from fv.model.siamese import Siamese
from fv.pipeline import augment
from fv.pipeline.augment import AugmentOptions
from fv.training.feeding import StallMeter
from fv.training.learner import Averages
from fv.training.optimizers import SUM, Updater
from fv.training.teacher import AnyTeacher

_IMAGES_PER_PAIR = 2
_XLA_WORDS = ("XLA", "JIT compil")  # one of them is in the message of everything that XLA refuses

# AutoGraph rewrites loops over tensors. Looking for them in everything that a step calls took half
# of a run's first step, and there are none in it.
_without_autograph = tf.autograph.experimental.do_not_convert


class TrainStep:
    """Runs training steps of a model under a strategy.

    Attributes:
      meter: seconds that the steps took, and seconds of them that the device waited for a batch.
    """

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
        teacher: AnyTeacher | None = None,
        teacher_mixup: float = 0.0,
        xla: bool = False,
    ):
        """Args:
        strategy: whose replicas compute.
        model: is trained.
        updater: gradients → weights; its options say in how many parts a step is computed.
        augmentation: of the images.
        global_batch_size: pairs of a step over all replicas and parts.
        seed: of augmentation, dropout and sampled classes.
        averages: of the weights, updated with each step.
        teacher: whose embeddings the model imitates.
        teacher_mixup: share of the pairs that are blended with others.
        xla: compile the forward and backward pass.

        Raises:
          UserError: XLA is known not to compile the step.
        """
        if xla:
            _check_compilable(strategy, model)
        self._strategy, self._model, self._updater = strategy, model, updater
        self._augmentation, self._averages, self._teacher = augmentation, averages, teacher
        self._global_batch_size, self._seed, self._xla = global_batch_size, seed, xla
        self._mixup = teacher_mixup
        self._parts = updater.options.accumulate_steps
        self._frozen_steps = updater.options.freeze_backbone_steps
        replicas = strategy.num_replicas_in_sync
        # Images that one replica gets in one part of a step.
        self._images = global_batch_size * _IMAGES_PER_PAIR // (replicas * self._parts)
        self._gradient_sums = {}
        if self._parts > 1:
            with strategy.scope():
                self._gradient_sums = _zeros_per_replica(model.trainable_variables)
        self.meter = StallMeter()

    def run(self, batches: Iterator, first_step: int, steps: int) -> np.ndarray:
        """Runs steps; the host waits once, at their end.

        Args:
          batches: iterator of a dataset that the strategy distributes, with the fields of
            `fv.pipeline.input_pipeline` and images of any one side. A step takes a batch for each
            of its parts.
          first_step: number of steps done before.
          steps: how many to run.

        Returns:
          float32 [steps], the mean loss of each step's global batch before its update.

        Raises:
          UserError: XLA does not compile the step.
        """
        losses = []
        with _explain_xla_errors() if self._xla else contextlib.nullcontext():
            for first, count, frozen in split_at_unfreezing(first_step, steps, self._frozen_steps):
                found, waited, began = self._run_steps(
                    batches, tf.constant(first), tf.constant(count), frozen
                )
                losses.append(found.numpy())
                self.meter.add(float(waited), time.time() - float(began))
        return np.concatenate(losses)

    @tf.function(reduce_retracing=True)
    def _run_steps(
        self, batches: Iterator, first_step: tf.Tensor, steps: tf.Tensor, frozen: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """(losses; seconds that the device waited for batches; host time of the first step).

        `frozen` is a Python bool, so that each of its values has a graph of its own.
        """
        losses = tf.TensorArray(tf.float32, steps)
        loss, waited = tf.constant(0.0), tf.constant(0.0, tf.float64)
        began = _host_clock(first_step)
        with _frozen_backbone(self._model, frozen):
            for index in tf.range(steps):
                loss, late = self._run_step(batches, first_step + index, loss)
                waited += late
                losses = losses.write(index, loss)
        return losses.stack(), waited, began

    def _run_step(
        self, batches: Iterator, step: tf.Tensor, previous_loss: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """(loss; seconds that the device waited for its batches)."""
        if self._parts == 1:
            batch, waited = _next_batch(batches, previous_loss)
            per_replica, applied = self._strategy.run(self._replica_step, args=(batch, step))
            loss = self._strategy.reduce(SUM, per_replica, axis=None)
        else:
            loss, waited = self._accumulate(batches, step, previous_loss)
            applied = self._strategy.run(self._replica_update)
        if self._averages:
            applied = self._strategy.experimental_local_results(applied)[0]
            self._averages.update(self._strategy, step + 1, applied)
        return loss, waited

    def _accumulate(
        self, batches: Iterator, step: tf.Tensor, previous_loss: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `_run_step`, without the update.

        A loop in the graph: with one graph of all parts, several would be in memory at once.
        """
        total, loss, waited = tf.constant(0.0), previous_loss, tf.constant(0.0, tf.float64)
        for part in tf.range(self._parts):
            batch, late = _next_batch(batches, loss)
            per_replica = self._strategy.run(self._replica_part, args=(batch, step, part))
            loss = self._strategy.reduce(SUM, per_replica, axis=None)
            total += loss
            waited += late
        return total, waited

    # What one replica computes.

    @_without_autograph
    def _replica_step(
        self, batch: dict[str, tf.Tensor], step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """(this replica's share of the loss; whether the update was applied)."""
        loss, gradients = self._compute_gradients(batch, step, 0)
        return loss, self._updater.apply(gradients, self._model.trainable_variables)

    @_without_autograph
    def _replica_part(
        self, batch: dict[str, tf.Tensor], step: tf.Tensor, part: tf.Tensor
    ) -> tf.Tensor:
        loss, gradients = self._compute_gradients(batch, step, part)
        for gradient, variable in zip(gradients, self._model.trainable_variables, strict=True):
            self._gradient_sums[variable.ref()].assign_add(gradient)
        return loss

    @_without_autograph
    def _replica_update(self) -> tf.Tensor:
        variables = self._model.trainable_variables
        sums = [self._gradient_sums[variable.ref()] for variable in variables]
        gradients = [each.read_value() for each in sums]
        with tf.control_dependencies(gradients):  # zero them only after they are read
            for each in sums:
                each.assign(tf.zeros_like(each))
        return self._updater.apply(gradients, variables)

    def _compute_gradients(
        self, batch: dict[str, tf.Tensor], step: tf.Tensor, part: tf.Tensor | int
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """One replica's share of the loss, float32 scalar, and of the scaled loss's gradients.

        Args:
          batch: this replica's pairs (`fv.pipeline.input_pipeline`).
          step: int scalar, the steps done before.
          part: which part of the step this is.
        """
        # Augmentation stays outside of XLA, which has no kernel for TensorFlow's resampling ops.
        images = self._augment(batch["images"], step, part)
        seed_and_step = tf.stack([self._seed, tf.cast(step, tf.int32)])
        identities, taught, mixed = batch["identities"], None, tf.zeros_like(batch["valid"])
        if self._teacher:
            if self._mixup:
                images, mixed = self._mix(images, step, part)
            identities, taught = self._teacher.teach(batch, images)
            identities = tf.where(mixed[:, tf.newaxis], record.NO_IDENTITY, identities)
            taught = tf.stop_gradient(taught)
        differentiate = self._differentiate
        if self._xla:
            differentiate = tf.function(differentiate, jit_compile=True, autograph=False)
        return differentiate(
            images,
            batch["label"],
            identities,
            batch["valid"],
            taught,
            mixed,
            seed_and_step,
            self._first_row(part),
        )

    def _augment(self, images: tf.Tensor, step: tf.Tensor, part: tf.Tensor | int) -> tf.Tensor:
        """uint8 [pairs, 2, any side, any side, 3] → float32 of the model's side."""
        side = self._model.encoder.input_shape[1]
        # For the whole global batch, so that the number of replicas and parts changes nothing.
        draws = augment.draw_randomness(
            self._augmentation, self._global_batch_size * _IMAGES_PER_PAIR, self._seed, step
        )
        if draws is None:
            return augment.resize(images, side)
        rows = tf.slice(draws, (self._first_row(part), 0), (self._images, draws.shape[1]))
        flat = tf.reshape(images, (self._images, *images.shape[2:]))
        augmented = augment.augment(flat, rows, self._augmentation, side)
        return tf.reshape(augmented, (-1, images.shape[1], *augmented.shape[1:]))

    def _mix(
        self, images: tf.Tensor, step: tf.Tensor, part: tf.Tensor | int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `augment.mix_pairs`, of this replica's pairs."""
        draws = augment.draw_mixing(self._global_batch_size, self._seed, step)
        pairs = self._images // _IMAGES_PER_PAIR
        first = self._first_row(part) // _IMAGES_PER_PAIR
        return augment.mix_pairs(images, tf.slice(draws, (first, 0), (pairs, 3)), self._mixup)

    def _differentiate(
        self, images, label, identities, valid, taught, mixed, seed_and_step, first_row
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with (
            tf.GradientTape() as tape,
            siamese.seeded_dropout(self._model.encoder, seed_and_step, first_row),
        ):
            embeddings = self._model.embed_pairs(images, training=True)
            pair_losses = self._model.head.pair_losses(embeddings, label, identities, seed_and_step)
            pair_losses = tf.where(mixed, 0.0, pair_losses)
            if self._teacher:
                pair_losses += self._teacher.pair_losses(embeddings, taught)
            pair_losses = tf.where(valid, pair_losses, 0.0)  # False for a skipped record
            # By the global batch: the gradients of replicas and parts are summed, not averaged.
            loss = tf.reduce_sum(pair_losses) / self._global_batch_size
            scaled_loss = self._updater.scaled(loss)
        return loss, tape.gradient(scaled_loss, self._model.trainable_variables)

    def _first_row(self, part: tf.Tensor | int) -> tf.Tensor:
        """The place of this replica's first image of that part in the global batch."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return (part * self._strategy.num_replicas_in_sync + replica) * self._images


def split_at_unfreezing(
    first_step: int, steps: int, frozen_steps: int
) -> list[tuple[int, int, bool]]:
    """Splits steps where the backbone begins to learn.

    Returns:
      One or two of (first step, number of steps, whether the backbone is frozen).
    """
    frozen = min(max(frozen_steps - first_step, 0), steps)
    stages = [(first_step, frozen, True), (first_step + frozen, steps - frozen, False)]
    return [stage for stage in stages if stage[1]]


@contextlib.contextmanager
def _frozen_backbone(model: Siamese, frozen: bool) -> Iterator[None]:
    """Traces graphs in the block with a frozen backbone: no gradients, no new statistics."""
    backbone = model.encoder.get_layer(backbones.NAME)
    trainable = backbone.trainable  # False under --freeze_backbone_steps=-1
    backbone.trainable = trainable and not frozen
    try:
        yield
    finally:
        backbone.trainable = trainable


def _zeros_per_replica(variables: Sequence[tf.Variable]) -> dict:
    """A float32 sum for each variable and replica, zero between steps: no checkpoint needs it."""
    return {
        variable.ref(): tf.Variable(
            tf.zeros(variable.shape),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )
        for variable in variables
    }


@_without_autograph
def _next_batch(
    batches: Iterator, previous_loss: tf.Tensor
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Takes the next batch, and measures how long the device waited for it.

    The device waits from the end of the previous step, when `previous_loss` is known, until the
    batch has arrived. The host's clock is read at each of the two, and the device does not wait for
    that. Neither read depends on the other, or with one thread for all ops the second could come
    after the step.

    Returns:
      The batch; and the wait in seconds, float64 scalar, 0 if the batch came first.
    """
    batch = next(batches)
    arrived = _host_clock(*tf.nest.flatten(batch, expand_composites=True))
    return batch, tf.nn.relu(arrived - _host_clock(previous_loss))


def _host_clock(*after: tf.Tensor) -> tf.Tensor:
    """This host's time in seconds, float64 scalar, as soon as the tensors `after` are computed.

    It waits for nothing else: TensorFlow orders only ops with side effects. (`tf.timestamp` refuses
    to run under --deterministic.)
    """
    with tf.device("CPU:0"), tf.control_dependencies(after):
        now = tf.numpy_function(lambda _: time.time(), after[:1], tf.float64, stateful=False)
        return tf.ensure_shape(now, ())


def _check_compilable(strategy: tf.distribute.Strategy, model: Siamese) -> None:
    """Raises UserError where XLA is known not to compile the step.

    Synchronised BatchNorm merges the replicas in the middle of what is compiled.
    """
    layers = model.encoder.get_layer(backbones.NAME).submodules
    synchronised = any(getattr(layer, "synchronized", False) for layer in layers)
    if synchronised and strategy.num_replicas_in_sync > 1:
        raise UserError(
            "--xla does not compile --sync_batch_norm over several replicas: leave one of them out"
        )


@contextlib.contextmanager
def _explain_xla_errors() -> Iterator[None]:
    """Turns XLA's error on a step that it does not compile into a UserError of one line."""
    try:
        yield
    except tf.errors.OpError as error:
        for line in str(error).splitlines():
            if any(word in line for word in _XLA_WORDS):
                raise UserError(
                    f"--xla does not compile this step: leave it out ({line.strip()})"
                ) from error
        raise
