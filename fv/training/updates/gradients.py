"""Loss and gradients of one replica's part of a batch: augment, embed, compare, differentiate."""

import tensorflow as tf

from fv.model import encoder
from fv.model.siamese import Siamese
from fv.pipeline import augment
from fv.pipeline.augment import AugmentOptions
from fv.training.teacher import Teacher
from fv.training.updates.updater import Updater

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
            encoder.seeded_dropout(self._model.encoder, moment, first_row),
        ):
            embeddings = self._model.embed_pairs(images, training=True)
            losses = self._model.head.losses(embeddings, label, identities, moment)
            if self._teacher:
                losses += self._teacher.losses(embeddings, taught)
            losses = tf.where(valid, losses, 0.0)  # a skipped record's place counts for nothing
            loss = (
                tf.reduce_sum(losses) / self._global_batch_size
            )  # replicas' and parts' gradients are summed
            objective = self._updater.scaled(loss)
        return loss, tape.gradient(objective, self._model.trainable_variables)

    def _augment(self, images: tf.Tensor, step: tf.Tensor, part: tf.Tensor | int) -> tf.Tensor:
        draws = augment.draw(
            self._augmentation, self._global_batch_size * _IMAGES_PER_PAIR, self._seed, step
        )
        side = self._model.encoder.input_shape[1]
        if draws is None:
            return augment.resize(images, side)
        count = self._count
        rows = tf.slice(draws, (self._first_row(part), 0), (count, draws.shape[1]))
        augmented = augment.apply(
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
