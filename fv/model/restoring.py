"""A model's weights back from a workdir's checkpoints."""

import contextlib
import os
from collections.abc import Iterator

import tensorflow as tf

from fv import workdir as workdirs
from fv.errors import UserError
from fv.model import siamese
from fv.model.model_record import ModelRecord
from fv.model.siamese import Siamese


def load_model(workdir: str, record: ModelRecord) -> tuple[Siamese, int]:
    """Builds the model of a workdir, in float32 whatever precision trained it, and restores its last checkpoint.

    Returns:
      The model, and the number of steps it was trained for.

    Raises:
      UserError: the workdir holds no checkpoint, or one that does not fit the model.
    """
    path = tf.train.latest_checkpoint(os.path.join(workdir, workdirs.CHECKPOINTS))
    if not path:
        raise UserError(f"{workdir} holds no checkpoint: run fv.train into it first")
    model = siamese.build_siamese(record.options, record.identities)
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    with readable(path):
        restored = tf.train.Checkpoint(model=model, step=step).restore(path)
        restored.assert_existing_objects_matched().expect_partial()
    return model, int(step.numpy())


@contextlib.contextmanager
def readable(path: str) -> Iterator[None]:
    """Turns TensorFlow's errors while restoring into one line."""
    try:
        yield
    except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:  # IndexError: a file cut short
        reason = str(error).split("\n", 1)[0]
        raise UserError(
            f"checkpoint {path} is damaged or of another model ({reason}): train into a new --workdir"
        ) from error
