"""The training step: several of them in one host call, on every replica. It knows nothing of the loop around it."""

import contextlib
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from fv.model.siamese import Siamese
from fv.pipeline.augment import AugmentOptions
from fv.training.teacher import Teacher
from fv.training.updates import compiling, unfreezing
from fv.training.updates.accumulation import Accumulators
from fv.training.updates.averaging import Averages
from fv.training.updates.gradients import Gradients
from fv.training.updates.updater import SUM, Updater
from fv.training.watching import stall
from fv.training.watching.stall import StallMeter

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
            compiling.check(strategy, model)
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
        stages = unfreezing.stages(first_step, steps, self._frozen_steps)
        with compiling.explained() if self._xla else contextlib.nullcontext():
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
            stall.clock(first_step),
        )
        with unfreezing.standing_still(self._model, frozen):
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
    came = stall.clock(*tf.nest.flatten(batch, expand_composites=True))
    return batch, tf.nn.relu(came - stall.clock(before))
