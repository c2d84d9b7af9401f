"""The training step: several of them in one host call, on every replica. It knows nothing of the loop around it."""

import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tf_keras

from fv.model.siamese import Siamese
from fv.pipeline import augment
from fv.pipeline.augment import AugmentOptions
from fv.training import stall
from fv.training.stall import StallMeter

_IMAGES_PER_PAIR = 2


class TrainStep:
    """Runs training steps of a model under a strategy."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: Siamese,
        optimizer: tf_keras.optimizers.Optimizer,
        augmentation: AugmentOptions,
        *,
        global_batch_size: int,
        seed: int,
    ):
        self._strategy, self._model, self._optimizer = strategy, model, optimizer
        self._augmentation, self._seed = augmentation, seed
        self._global_batch_size = global_batch_size
        self.meter = StallMeter()

    def run(self, batches: Iterator, first_step: int, steps: int) -> np.ndarray:
        """Runs `steps` steps; the host waits once, at their end.

        Args:
          batches: iterator of a dataset that the strategy distributes (see `fv.pipeline.input_pipeline`), of images of any
            one side: the step brings them to the model's.
          first_step: number of steps done before.
          steps: how many to run.

        Returns:
          float32 [steps], the mean loss of each step's global batch, before its update; `meter` has counted the wait.
        """
        losses, waited, began = self._steps(batches, tf.constant(first_step), tf.constant(steps))
        losses = losses.numpy()
        self.meter.add(float(waited), time.time() - float(began))
        return losses

    @tf.function(reduce_retracing=True)
    def _steps(self, batches: Iterator, first_step: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """(losses; seconds in which the device had no batch; when the first step began, in seconds of the clock).

        A batch is late by as much as it comes after the loss of the step before it. That step's loss is waited for only when
        the next step is on its way to the device, so the device never waits for the host to look at its clock.
        """
        losses = tf.TensorArray(tf.float32, steps)
        loss, waited, began = tf.constant(0.0), tf.constant(0.0, tf.float64), stall.clock()
        for index in tf.range(steps):
            with tf.device("CPU:0"), tf.control_dependencies([tf.identity(loss)]):
                free = stall.clock()
            batch = next(batches)
            with tf.device("CPU:0"), tf.control_dependencies([free, *tf.nest.flatten(batch, expand_composites=True)]):
                waited += stall.clock() - free
            per_replica = self._strategy.run(self._replica_step, args=(batch, first_step + index))
            loss = self._strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)
            losses = losses.write(index, loss)
        return losses.stack(), waited, began

    def _replica_step(self, batch: dict[str, tf.Tensor], step: tf.Tensor) -> tf.Tensor:
        images = self._augment(batch["images"], step)
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            embeddings = self._model.embed_pairs(images, training=True)
            losses = self._model.head.losses(embeddings, batch["label"], batch["identities"])
            losses = tf.where(batch["valid"], losses, 0.0)  # a skipped record's place counts for nothing
            loss = tf.reduce_sum(losses) / self._global_batch_size  # replicas' gradients are summed
            objective = self._scaled(loss)
        self._update(tape.gradient(objective, variables), variables)
        return loss

    def _augment(self, images: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        draws = augment.draw(self._augmentation, self._global_batch_size * _IMAGES_PER_PAIR, self._seed, step)
        side = self._model.encoder.input_shape[1]
        if draws is None:
            return augment.resize(images, side)
        count = draws.shape[0] // self._strategy.num_replicas_in_sync
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = tf.slice(draws, (count * replica, 0), (count, draws.shape[1]))
        augmented = augment.apply(tf.reshape(images, (count, *images.shape[2:])), rows, self._augmentation, side)
        return tf.reshape(augmented, (-1, images.shape[1], *augmented.shape[1:]))

    def _scaled(self, loss: tf.Tensor) -> tf.Tensor:
        return self._optimizer.get_scaled_loss(loss) if self._scales_loss else loss

    def _update(self, gradients: list[tf.Tensor], variables: list[tf.Variable]) -> None:
        if self._scales_loss:
            gradients = self._optimizer.get_unscaled_gradients(gradients)
        self._optimizer.apply_gradients(zip(gradients, variables, strict=True))

    @property
    def _scales_loss(self) -> bool:
        return isinstance(self._optimizer, tf_keras.mixed_precision.LossScaleOptimizer)
