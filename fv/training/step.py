"""The training step: several of them in one host call, on every replica. It knows nothing of the loop around it."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tf_keras

from fv.model.siamese import Siamese
from fv.pipeline import augment
from fv.pipeline.augment import AugmentOptions

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

    def run(self, batches: Iterator, first_step: int, steps: int) -> np.ndarray:
        """Runs `steps` steps; the host waits once, at their end.

        Args:
          batches: iterator of a dataset that the strategy distributes (see `fv.pipeline.input_pipeline`).
          first_step: number of steps done before.
          steps: how many to run.

        Returns:
          float32 [steps], the mean loss of each step's global batch, before its update.
        """
        return self._steps(batches, tf.constant(first_step), tf.constant(steps)).numpy()

    @tf.function(reduce_retracing=True)
    def _steps(self, batches: Iterator, first_step: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        losses = tf.TensorArray(tf.float32, steps)
        for index in tf.range(steps):
            per_replica = self._strategy.run(self._replica_step, args=(next(batches), first_step + index))
            losses = losses.write(index, self._strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None))
        return losses.stack()

    def _replica_step(self, batch: dict[str, tf.Tensor], step: tf.Tensor) -> tf.Tensor:
        images = self._augment(batch["images"], step)
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            embeddings = self._model.embed_pairs(images, training=True)
            losses = self._model.head.losses(embeddings, batch["label"], batch["identities"])
            loss = tf.reduce_sum(losses) / self._global_batch_size  # replicas' gradients are summed
            objective = self._scaled(loss)
        self._update(tape.gradient(objective, variables), variables)
        return loss

    def _augment(self, images: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        draws = augment.draw(self._augmentation, self._global_batch_size * _IMAGES_PER_PAIR, self._seed, step)
        if draws is None:
            return images
        count = draws.shape[0] // self._strategy.num_replicas_in_sync
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = tf.slice(draws, (count * replica, 0), (count, draws.shape[1]))
        augmented = augment.apply(tf.reshape(images, (count, *images.shape[2:])), rows, self._augmentation)
        return tf.reshape(augmented, (-1, *images.shape[1:]))

    def _scaled(self, loss: tf.Tensor) -> tf.Tensor:
        return self._optimizer.get_scaled_loss(loss) if self._scales_loss else loss

    def _update(self, gradients: list[tf.Tensor], variables: list[tf.Variable]) -> None:
        if self._scales_loss:
            gradients = self._optimizer.get_unscaled_gradients(gradients)
        self._optimizer.apply_gradients(zip(gradients, variables, strict=True))

    @property
    def _scales_loss(self) -> bool:
        return isinstance(self._optimizer, tf_keras.mixed_precision.LossScaleOptimizer)
