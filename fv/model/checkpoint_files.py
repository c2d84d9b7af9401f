"""Checkpoints as files: which a folder holds, which of them are whole, and how they appear whole or not at all."""

import os
import re
from collections.abc import Callable, Sequence

import tensorflow as tf

from fv import files

_NAME = re.compile(r"ckpt-(\d+)\.index")
_WRITING = ".writing"  # folder in which one is written, beside where it goes
_ANY_DAMAGE = (tf.errors.OpError, IndexError, RuntimeError, ValueError)  # TensorFlow raises each of them for some damage


def find(folder: str) -> list[str]:
    """The checkpoints in a folder, as TensorFlow's functions take them, those of the most steps first."""
    names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    steps = [int(match.group(1)) for match in map(_NAME.fullmatch, names) if match]
    return [path_of(folder, step) for step in sorted(steps, reverse=True)]


def path_of(folder: str, step: int) -> str:
    """Where the checkpoint after `step` steps goes."""
    return os.path.join(folder, f"ckpt-{step}")


def step_of(path: str) -> int:
    """The steps before a checkpoint that `find` found."""
    return int(path.rpartition("-")[2])


def find_whole(folder: str, tell: Callable[[str], object]) -> str | None:
    """The checkpoint of the most steps whose bytes are all there and as they were written; None where there is none.

    Args:
      folder: of checkpoints.
      tell: takes a line on each checkpoint that is passed over.
    """
    for path in find(folder):
        damage = _damage(path)
        if damage is None:
            return path
        tell(f"{path} is damaged ({damage}): passed over for the one before it")
    return None


def write(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Writes a checkpoint beside its place and then renames it, its index last: without one, data counts for nothing.

    Raises:
      tf.errors.OpError: it cannot be written; what was there before stays, and nothing of the new one does.
    """
    folder, name = os.path.split(path)
    writing = os.path.join(folder, _WRITING)
    try:
        clear(folder)
        tf.io.gfile.makedirs(writing)
        checkpoint.write(os.path.join(writing, name))
        for written in sorted(tf.io.gfile.listdir(writing), key=lambda found: found.endswith(".index")):
            tf.io.gfile.rename(os.path.join(writing, written), os.path.join(folder, written), overwrite=True)
    finally:
        clear(folder)


def list_for_tensorflow(folder: str, paths: Sequence[str]) -> None:
    """Writes the file from which `tf.train.latest_checkpoint` and other tools know a folder's checkpoints, oldest first."""
    names = [f'"{os.path.basename(path)}"' for path in paths]
    lines = [f"model_checkpoint_path: {names[-1]}", *(f"all_model_checkpoint_paths: {name}" for name in names)]
    with files.atomic_open(os.path.join(folder, "checkpoint")) as file:
        file.write("\n".join(lines) + "\n")


def clear(folder: str) -> None:
    """Removes what a run that was killed while it wrote a checkpoint has left."""
    writing = os.path.join(folder, _WRITING)
    if tf.io.gfile.isdir(writing):
        tf.io.gfile.rmtree(writing)


def remove(path: str) -> None:
    """Removes a checkpoint, its index first."""
    for found in sorted(tf.io.gfile.glob(f"{path}.*"), key=lambda found: not found.endswith(".index")):
        tf.io.gfile.remove(found)


def _damage(path: str) -> str | None:
    """What is wrong with a checkpoint's files; reading a tensor compares its checksum."""
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except _ANY_DAMAGE as error:
        return str(error).split("\n", 1)[0] or type(error).__name__
    return None
