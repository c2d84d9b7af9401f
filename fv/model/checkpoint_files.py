"""Checkpoint files: finding whole ones, writing them atomically, and loading a model from one.

Functions take the path of a checkpoint as TensorFlow does: FOLDER/ckpt-STEP, without the endings of
its files, .index and .data-00000-of-00001.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence

import tensorflow as tf

from fv import errors, files, gpus, ownership
from fv import workdir as workdirs
from fv.errors import UserError
from fv.model import siamese
from fv.model.model_record import ModelRecord
from fv.model.siamese import Siamese

LIST = "checkpoint"  # TensorFlow's name for its list of a folder's checkpoints
_INDEX = re.compile(r"ckpt-(\d+)\.index")
_WRITING = "checkpoint"  # folder in the workdir's .fv/ in which a checkpoint is written
_AVERAGES = "averages"  # name that training gives averaged weights in a checkpoint
# TensorFlow raises each of these for some damage, IndexError for a file that was cut short.
_DAMAGE = (tf.errors.OpError, IndexError, RuntimeError, ValueError)


def find_checkpoints(folder: str) -> list[str]:
    """Lists the checkpoints of a folder, those of the most steps first."""
    names = files.names(folder) if files.is_folder(folder) else []
    steps = [int(match.group(1)) for match in map(_INDEX.fullmatch, names) if match]
    return [checkpoint_path(folder, step) for step in sorted(steps, reverse=True)]


def checkpoint_path(folder: str, step: int) -> str:
    """Returns the path of the checkpoint after `step` steps."""
    return os.path.join(folder, f"ckpt-{step}")


def checkpoint_step(path: str) -> int:
    """Returns the number of steps before a checkpoint."""
    return int(path.rpartition("-")[2])


def find_last_whole(folder: str, report: Callable[[str], object]) -> str | None:
    """Finds the checkpoint of the most steps whose files are complete and unchanged.

    Args:
      folder: of checkpoints.
      report: takes a line on each damaged checkpoint.

    Returns:
      Its path; None if there is none.
    """
    for path in find_checkpoints(folder):
        damage = _find_damage(path)
        if damage is None:
            return path
        report(f"{path} is damaged ({damage}): passed over for the one before it")
    return None


def write_checkpoint(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Writes a checkpoint into the workdir's .fv/ and renames its files.

    Raises:
      tf.errors.OpError or OSError: it cannot be written. The files that were there stay, and no
        file of the new checkpoint does.
      UserError: there are files of its name that fv did not write.
    """
    folder, name = os.path.split(path)
    workdir = os.path.dirname(folder)
    if not is_listed(path):
        ownership.refuse_foreign([os.path.basename(found) for found in _files_of(path)], folder)
    writing = os.path.join(ownership.private_folder(workdir), _WRITING)
    try:
        ownership.remove_private(workdir, _WRITING)  # a killed run leaves one
        tf.io.gfile.makedirs(writing)
        checkpoint.write(os.path.join(writing, name))
        tf.io.gfile.makedirs(folder)
        # Listed before the rename: after a kill in between, the files are still known as fv's.
        ownership.record_digests(workdir, {_index_name(path): ownership.UNCHECKED})
        # The index last: without it the data are no checkpoint.
        for file in sorted(tf.io.gfile.listdir(writing), key=lambda file: file.endswith(".index")):
            source, target = os.path.join(writing, file), os.path.join(folder, file)
            tf.io.gfile.rename(source, target, overwrite=True)
    finally:
        ownership.remove_private(workdir, _WRITING)


def remove_checkpoint(path: str) -> None:
    """Removes a checkpoint that fv wrote, its index first; others stay."""
    if is_listed(path):
        for found in sorted(_files_of(path), key=lambda found: not found.endswith(".index")):
            tf.io.gfile.remove(found)
        ownership.forget(os.path.dirname(os.path.dirname(path)), [_index_name(path)])


def list_for_tensorflow(folder: str, paths: Sequence[str]) -> None:
    """Writes the file that `tf.train.latest_checkpoint` reads; `paths` are oldest first."""
    names = [f'"{os.path.basename(path)}"' for path in paths]
    lines = [f"model_checkpoint_path: {names[-1]}"]
    lines += [f"all_model_checkpoint_paths: {name}" for name in names]
    workdir, name = os.path.split(folder)
    ownership.record_digests(workdir, {f"{name}/{LIST}": ownership.UNCHECKED})
    with files.atomic_open(os.path.join(folder, LIST)) as file:
        file.write("\n".join(lines) + "\n")


def is_listed(path: str) -> bool:
    """Whether fv wrote a checkpoint, by its name: comparing its bytes would take too long."""
    return _index_name(path) in ownership.listed_names(os.path.dirname(os.path.dirname(path)))


def adopt_unlisted(folder: str) -> None:
    """Lists the checkpoints of a folder as fv's if none is listed, as in a copy without .fv/."""
    found = find_checkpoints(folder)
    if not any(map(is_listed, found)):
        names = {_index_name(path): ownership.UNCHECKED for path in found}
        ownership.record_digests(os.path.dirname(folder), names)


def load_model(
    workdir: str,
    record: ModelRecord,
    which: str = workdirs.LAST,
    advice: str = "--checkpoint=last",
) -> tuple[Siamese, int]:
    """Builds the model of a workdir in float32 and restores one of its checkpoints.

    If the run kept averages of its weights (--average_weights), these are restored, with their
    BatchNorm statistics: a run validates them, too.

    Args:
      workdir: of the run.
      record: of its model.
      which: `workdir.LAST` for the last whole checkpoint, or `workdir.BEST`.
      advice: the flag that chooses the last checkpoint, for messages.

    Returns:
      The model, and the number of steps it was trained for.

    Raises:
      UserError: the workdir holds no whole checkpoint, or one that does not fit the model.
    """
    gpus.warn_of_unseen()
    folder = workdirs.checkpoint_folder(workdir, which)
    path = find_last_whole(folder, lambda line: print(line, file=sys.stderr))
    if path is None:
        none = f"{folder} holds no whole checkpoint"
        last = workdirs.checkpoint_folder(workdir, workdirs.LAST)
        if folder != last and find_checkpoints(last):
            raise UserError(f"{none}, as of a run that did not validate: give {advice}")
        raise UserError(f"{none}: run fv.train into {workdir} first")
    model = siamese.build_siamese(record.options, record.identities)
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    try:
        names = tf.train.load_checkpoint(path).get_variable_to_shape_map()
        averaged = any(name.startswith(f"{_AVERAGES}/") for name in names)
        parts = {_AVERAGES: tf.train.Checkpoint(model=model)} if averaged else {"model": model}
        restored = tf.train.Checkpoint(step=step, **parts).read(path)
        restored.assert_existing_objects_matched().expect_partial()
    except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
        errors.raise_if_temporary(error)
        raise UserError(
            f"checkpoint {path} is damaged or of another model ({errors.describe(error)}): "
            "train into a new --workdir"
        ) from error
    return model, int(step.numpy())


def _find_damage(path: str) -> str | None:
    """Reads every tensor, which compares its checksum; returns the first error."""
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except _DAMAGE as error:
        errors.raise_if_temporary(error)  # the checkpoint may be whole
        if errors.is_about_access(error):
            raise
        return errors.describe(error)
    return None


def _index_name(path: str) -> str:
    """The path of a checkpoint's index relative to the workdir."""
    folder, name = os.path.split(path)
    return f"{os.path.basename(folder)}/{name}.index"


def _files_of(path: str) -> list[str]:
    folder, name = os.path.split(path)
    pattern = re.compile(rf"{re.escape(name)}\.(index|data-\d{{5}}-of-\d{{5}})")
    names = files.names(folder) if files.is_folder(folder) else []
    return [os.path.join(folder, found) for found in sorted(names) if pattern.fullmatch(found)]
