"""Checkpoints: weights, optimizer and step, written whole or not at all."""

import os
import tempfile

import tensorflow as tf
import tf_keras

from fv import workdir as workdirs
from fv.model import restoring
from fv.model.siamese import Siamese


class Checkpoints:
    """The checkpoints of a training run."""

    def __init__(self, workdir: str, model: Siamese, optimizer: tf_keras.optimizers.Optimizer, *, keep: int, chief: bool):
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self._checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=self._step)
        self._shared = os.path.join(workdir, workdirs.CHECKPOINTS)
        # Under several workers all of them must take part in saving, but one file is kept: the chief's.
        folder = self._shared if chief else tempfile.mkdtemp(prefix="fv-checkpoints-")
        self._manager = tf.train.CheckpointManager(self._checkpoint, folder, max_to_keep=keep)

    def restore(self) -> int:
        """Restores the last checkpoint, if there is one, and returns the number of steps it had done."""
        path = tf.train.latest_checkpoint(self._shared)
        if path:
            with restoring.readable(path):
                self._checkpoint.restore(path).assert_existing_objects_matched()
        return int(self._step.numpy())

    def save(self, step: int) -> None:
        """Saves the state after `step` steps, and removes the oldest checkpoint where there are too many."""
        self._step.assign(step)
        self._manager.save(checkpoint_number=step)
