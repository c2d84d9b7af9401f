"""Checkpoints as files: which a folder holds, which of them are whole, and how they appear whole or not at all."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from fv import errors, files, gpus, ownership
from fv.errors import UserError
from fv.model import checkpoint_choice, siamese
from fv.model.model_record import ModelRecord
from fv.model.siamese import Siamese

LIST = "checkpoint"  # TensorFlow's name for its list of a folder's checkpoints

_NAME = re.compile(r"ckpt-(\d+)\.index")
_WRITING = "checkpoint"  # folder in the workdir's .fv/, in which one is written
_ANY_DAMAGE = (
    tf.errors.OpError,
    IndexError,
    RuntimeError,
    ValueError,
)  # TensorFlow raises each of them for some damage


def find_checkpoints(folder: str) -> list[str]:
    """The checkpoints in a folder, as TensorFlow's functions take them, those of the most steps first."""
    names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    steps = [int(match.group(1)) for match in map(_NAME.fullmatch, names) if match]
    return [checkpoint_path(folder, step) for step in sorted(steps, reverse=True)]


def checkpoint_path(folder: str, step: int) -> str:
    """Where the checkpoint after `step` steps goes."""
    return os.path.join(folder, f"ckpt-{step}")


def checkpoint_step(path: str) -> int:
    """The steps before a checkpoint that `find` found."""
    return int(path.rpartition("-")[2])


def find_last_whole(folder: str, tell: Callable[[str], object]) -> str | None:
    """The checkpoint of the most steps whose bytes are all there and as they were written; None where there is none.

    Args:
      folder: of checkpoints.
      tell: takes a line on each checkpoint that is passed over.
    """
    for path in find_checkpoints(folder):
        damage = _damage(path)
        if damage is None:
            return path
        tell(f"{path} is damaged ({damage}): passed over for the one before it")
    return None


def write_checkpoint(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Writes a checkpoint into the workdir's .fv/ and then renames it, its index last: without one, data counts for nothing.

    Raises:
      tf.errors.OpError or OSError: it cannot be written; what was there before stays, and nothing of the new one does.
      UserError: there are files of its name that fv did not write.
    """
    folder, name = os.path.split(path)
    workdir = os.path.dirname(folder)
    if not is_listed(path):
        ownership.refuse_foreign([os.path.basename(found) for found in _files_of(path)], folder)
    writing = os.path.join(ownership.private_folder(workdir), _WRITING)
    try:
        clear_unfinished(workdir)
        tf.io.gfile.makedirs(writing)
        checkpoint.write(os.path.join(writing, name))
        tf.io.gfile.makedirs(folder)
        ownership.record_digests(workdir, {_listed_name(path): ownership.UNCHECKED})
        for written in sorted(
            tf.io.gfile.listdir(writing), key=lambda found: found.endswith(".index")
        ):
            tf.io.gfile.rename(
                os.path.join(writing, written), os.path.join(folder, written), overwrite=True
            )
    finally:
        clear_unfinished(workdir)


def list_for_tensorflow(folder: str, paths: Sequence[str]) -> None:
    """Writes the file from which `tf.train.latest_checkpoint` and other tools know a folder's checkpoints, oldest first."""
    names = [f'"{os.path.basename(path)}"' for path in paths]
    lines = [
        f"model_checkpoint_path: {names[-1]}",
        *(f"all_model_checkpoint_paths: {name}" for name in names),
    ]
    path = os.path.join(folder, LIST)
    ownership.record_digests(
        os.path.dirname(folder), {f"{os.path.basename(folder)}/{LIST}": ownership.UNCHECKED}
    )
    with files.atomic_open(path) as file:
        file.write("\n".join(lines) + "\n")


def clear_unfinished(workdir: str) -> None:
    """Removes what a run that was killed while it wrote a checkpoint has left."""
    ownership.remove_private(workdir, _WRITING)


def remove_checkpoint(path: str) -> None:
    """Removes a checkpoint that fv wrote, its index first; others stay."""
    if is_listed(path):
        for found in sorted(_files_of(path), key=lambda found: not found.endswith(".index")):
            tf.io.gfile.remove(found)
        ownership.forget(os.path.dirname(os.path.dirname(path)), [_listed_name(path)])


def is_listed(path: str) -> bool:
    """Whether fv wrote a checkpoint, as far as its name tells: runs write them too often to compare their bytes."""
    return _listed_name(path) in ownership.listed_names(os.path.dirname(os.path.dirname(path)))


def adopt_unlisted(folder: str) -> None:
    """Lists the checkpoints of a folder in a workdir that an earlier fv wrote, which listed none."""
    workdir, found = os.path.dirname(folder), find_checkpoints(folder)
    if not any(map(is_listed, found)):
        ownership.record_digests(
            workdir, {_listed_name(path): ownership.UNCHECKED for path in found}
        )


def _listed_name(path: str) -> str:
    """The name of a checkpoint's index, from the workdir on."""
    folder, name = os.path.split(path)
    return f"{os.path.basename(folder)}/{name}.index"


def _files_of(path: str) -> list[str]:
    folder, name = os.path.split(path)
    ours = re.compile(rf"{re.escape(name)}\.(index|data-\d{{5}}-of-\d{{5}})")
    names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    return [os.path.join(folder, found) for found in sorted(names) if ours.fullmatch(found)]


def _damage(path: str) -> str | None:
    """What is wrong with a checkpoint's files; reading a tensor compares its checksum."""
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except _ANY_DAMAGE as error:
        errors.raise_if_temporary(error)  # else a whole checkpoint would be passed over
        return str(error).split("\n", 1)[0] or type(error).__name__
    return None


# A model's weights back from a workdir's checkpoints.

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
    path = find_last_whole(folder, lambda line: print(line, file=sys.stderr))
    last = checkpoint_choice.folder(workdir, checkpoint_choice.LAST)
    if not path and folder != last and find_checkpoints(last):
        raise UserError(
            f"{folder} holds no whole checkpoint, as of a run that did not validate: give {advice}"
        )
    if not path:
        raise UserError(f"{folder} holds no whole checkpoint: run fv.train into {workdir} first")
    model = siamese.build_siamese(record.options, record.identities)
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    with report_unreadable(path):
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
def report_unreadable(path: str) -> Iterator[None]:
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
