"""A model's weights back from a workdir's checkpoints."""

import contextlib
import sys
from collections.abc import Iterator

import tensorflow as tf

from fv import errors, gpus
from fv.errors import UserError
from fv.model import checkpoint_choice, checkpoint_files, siamese
from fv.model.model_record import ModelRecord
from fv.model.siamese import Siamese

_AVERAGES = "averages"  # what `fv.training.learner` calls them in a checkpoint


def load_model(
    workdir: str,
    record: ModelRecord,
    which: str = checkpoint_choice.LAST,
    advice: str = "--checkpoint=last",
) -> tuple[Siamese, int]:
    """Builds the model of a workdir, in float32 whatever precision trained it, and restores one of its checkpoints.

    The last one, that is, which is whole, or the one that validated best.

    Where the run kept averages of its weights (--average_weights), these are what is restored, BatchNorm's statistics with
    them: what a run validates is what is evaluated and exported.

    Args:
      workdir: of the run.
      record: of its model.
      which: one of `checkpoint_choice.CHOICES`.
      advice: the flag that chooses the last checkpoint, for messages.

    Returns:
      The model, and the number of steps it was trained for.

    Raises:
      UserError: the workdir holds no checkpoint, or one that does not fit the model.
    """
    gpus.warn_of_unseen()
    folder = checkpoint_choice.folder(workdir, which)
    path = checkpoint_files.find_whole(folder, lambda line: print(line, file=sys.stderr))
    last = checkpoint_choice.folder(workdir, checkpoint_choice.LAST)
    if not path and folder != last and checkpoint_files.find(last):
        raise UserError(
            f"{folder} holds no whole checkpoint, as of a run that did not validate: give {advice}"
        )
    if not path:
        raise UserError(f"{folder} holds no whole checkpoint: run fv.train into {workdir} first")
    model = siamese.build_siamese(record.options, record.identities)
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    with readable(path):
        held = (
            {_AVERAGES: tf.train.Checkpoint(model=model)}
            if _holds_averages(path)
            else {"model": model}
        )
        restored = tf.train.Checkpoint(step=step, **held).read(path)
        restored.assert_existing_objects_matched().expect_partial()
    return model, int(step.numpy())


def _holds_averages(path: str) -> bool:
    names = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    return any(name.startswith(f"{_AVERAGES}/") for name in names)


@contextlib.contextmanager
def readable(path: str) -> Iterator[None]:
    """Turns TensorFlow's errors while restoring into one line."""
    try:
        yield
    except (
        tf.errors.OpError,
        AssertionError,
        IndexError,
        ValueError,
    ) as error:  # IndexError: a file cut short
        errors.raise_if_temporary(error)
        reason = str(error).split("\n", 1)[0]
        raise UserError(
            f"checkpoint {path} is damaged or of another model ({reason}): train into a new --workdir"
        ) from error
