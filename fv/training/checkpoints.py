"""Checkpoints: all that a run needs to continue as if it had not stopped.

They are written whole or not at all, and never with a weight that is not finite.
"""

import contextlib
import errno
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NoReturn

import tensorflow as tf
import tf_keras

from fv import errors, files, ownership
from fv import workdir as workdirs
from fv.errors import UserError
from fv.model import checkpoint_files
from fv.training.strategy import Agreement

# {"step": of the last validation, "metric", "best": its value, "best_step"}
VALIDATION_FILE = "validation.json"

_METRIC = "auc"  # of the best checkpoint
_KEPT = 3  # last checkpoints

_FULL_DISK_REASONS = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT)))
# TensorFlow raises each of them for some mismatch between a checkpoint and the variables.
_MISMATCH_ERRORS = (tf.errors.OpError, AssertionError, ValueError, TypeError)
# Reading the workers' shared variables raises these when a worker is lost, which is no fault of the
# disk; `fv.training.strategy` reports it.
_WORKER_ERRORS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


class Checkpoints:
    """The checkpoints of a training run: the last few, and the one that validated best."""

    def __init__(self, workdir: str, agreement: Agreement, *, chief: bool, **trackables: tf.Module):
        """Args:
        workdir: of the run.
        agreement: between the workers.
        chief: whether this process writes them; all workers take part in saving.
        trackables: what is saved, each with all its variables made.
        """
        self._workdir, self._agreement, self._chief = workdir, agreement, chief
        self._folder = os.path.join(workdir, workdirs.CHECKPOINTS)
        self._written_into = workdir if chief else tempfile.gettempdir()
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self._checkpoint = tf.train.Checkpoint(step=self._step, **trackables)
        self._float_variables = _float_variables(self._checkpoint)
        self._best = os.path.join(workdir, workdirs.BEST)
        self._validation_path = os.path.join(self._best, VALIDATION_FILE)
        self._validation: dict = {}  # the content of that file
        if chief and files.exists(self._validation_path):
            self._validation = files.load_json(self._validation_path)
        self._kept: list[str] = []  # oldest first
        self._finite_step: int | None = None  # the step whose weights were last found finite
        self._saved = time.monotonic()

    @property
    def last_step(self) -> int:
        """Steps before the last checkpoint that was restored or saved, 0 for none."""
        return checkpoint_files.checkpoint_step(self._kept[-1]) if self._kept else 0

    @property
    def seconds_since_save(self) -> float:
        """Time since the last save of this process, or since its start."""
        return time.monotonic() - self._saved

    def restore(self) -> int:
        """Restores the last whole checkpoint, if there is one.

        Returns:
          The number of steps before it, 0 for none.

        Raises:
          UserError: none of the checkpoints is whole, the last whole one is of another run, or the
            workers find different ones.
        """
        path = checkpoint_files.find_last_whole(self._folder, self._print_damage)
        found = checkpoint_files.find_checkpoints(self._folder)
        if found and not path:
            raise UserError(
                f"no checkpoint in {self._folder} is whole: remove that folder and {self._best} to "
                "start anew, or give another --workdir"
            )
        if not self._agreement.same(checkpoint_files.checkpoint_step(path) if path else 0):
            raise UserError(
                f"the workers find different checkpoints in {self._workdir}: give a --workdir that "
                "all of them share"
            )
        if path:
            newer, older = found[: found.index(path)], found[found.index(path) :]
            if self._chief:  # the run will replace the newer ones
                foreign = [each for each in newer if not checkpoint_files.is_listed(each)]
                names = [f"{os.path.basename(each)}.index" for each in foreign]
                ownership.refuse_foreign(names, self._folder)
            self._read(path)
            self._kept = older[::-1]
        return self.last_step

    def save(self, step: int) -> None:
        """Saves the state after `step` steps if it is not saved yet, and removes the oldest ones.

        Raises:
          UserError: a weight is not finite, or the disk is full or refuses the checkpoint; those
            before it stay.
          TemporaryError: the disk failed in a way that may pass.
        """
        if step == self.last_step:
            return
        path = checkpoint_files.checkpoint_path(self._folder, step)
        self._write(path, step)
        self._kept.append(path)
        self._saved = time.monotonic()
        surplus, self._kept = self._kept[:-_KEPT], self._kept[-_KEPT:]
        if self._chief:
            with self._explain_write_errors(step):
                checkpoint_files.list_for_tensorflow(self._folder, self._kept)
                for old in surplus:
                    checkpoint_files.remove_checkpoint(old)

    def validated(self, step: int) -> bool:
        """Whether the weights after `step` steps, or later ones, were validated."""
        return self._agreement.any(self._chief and self._validation.get("step", 0) >= step)

    def note_validation(self, step: int, auc: float) -> None:
        """Notes that the state after `step` steps was validated, and saves it if it is the best.

        The validation is noted after the state is saved. A run that is killed in between validates
        that step again, with the same result. Errors are those of `save`.
        """
        best = self._validation.get("best", -math.inf)
        if self._agreement.any(self._chief and auc > best):
            self.save_best(step)
            self._validation |= {"metric": _METRIC, "best": auc, "best_step": step}
        self._validation["step"] = step
        if self._chief:
            files.make_folder(self._best)
            name = f"{workdirs.BEST}/{VALIDATION_FILE}"
            ownership.record_digests(self._workdir, {name: ownership.UNCHECKED})
            files.save_json(self._validation, self._validation_path)

    def save_best(self, step: int) -> None:
        """Saves the state after `step` steps in place of the best one; errors as in `save`."""
        earlier = checkpoint_files.find_checkpoints(self._best)
        self._write(checkpoint_files.checkpoint_path(self._best, step), step)
        if self._chief:
            for path in earlier:
                if checkpoint_files.checkpoint_step(path) != step:
                    checkpoint_files.remove_checkpoint(path)

    def require_finite(self, step: int) -> None:
        """Checks all that a checkpoint after `step` steps would hold; all workers call it together.

        Raises:
          UserError: a weight, an average or an optimizer's slot is not finite.
        """
        if step == self._finite_step:
            return  # saving, validating and saving the best follow each other without an update
        broken = self._find_not_finite()
        if broken:
            raise_diverged(f"{broken} is not finite after step {step}", self.last_step)
        self._finite_step = step

    def _find_not_finite(self) -> str | None:
        """The name of a variable that is not finite on some replica; None where all are."""
        # Op by op, since tracing a graph of 750 variables takes seconds. All ops are started before
        # the first result is waited for.
        strategy = self._agreement.strategy
        local = [strategy.experimental_local_results(each) for each in self._float_variables]
        squares = [[tf.nn.l2_loss(each) for each in replicas] for replicas in local]
        broken = [
            variable.name
            for variable, replicas, sums in zip(self._float_variables, local, squares, strict=True)
            if any(map(_is_broken, replicas, sums))
        ]
        if not self._agreement.any(bool(broken)):
            return None
        return broken[0] if broken else "a weight of another worker"

    def _write(self, path: str, step: int) -> None:
        self.require_finite(step)
        self._step.assign(step)
        with self._explain_write_errors(step):
            if self._chief:
                checkpoint_files.write_checkpoint(self._checkpoint, path)
                return
            # The workers' shared variables can only be read by all of them together.
            with tempfile.TemporaryDirectory(
                prefix="fv-checkpoint-", dir=self._written_into
            ) as scratch:
                self._checkpoint.write(os.path.join(scratch, "ckpt"))

    @contextlib.contextmanager
    def _explain_write_errors(self, step: int) -> Iterator[None]:
        try:
            yield
        except _WORKER_ERRORS:
            raise
        except (tf.errors.OpError, OSError) as error:
            errors.raise_if_temporary(error)
            reason = str(error).split("\n", 1)[0].partition(" [Op:")[0].rpartition("; ")[2]
            before = "there is none before it"
            if self._kept:
                before = f"the one at step {self.last_step} is whole"
            raise UserError(
                f"the checkpoint at step {step} cannot be written into {self._written_into} "
                f"({reason}); {before}: make room and run the same command again"
            ) from error

    def _read(self, path: str) -> None:
        try:
            self._checkpoint.read(path).assert_existing_objects_matched()
        except _MISMATCH_ERRORS as error:
            errors.raise_if_temporary(error)
            # Else TensorFlow adds a warning for each variable after the one line of the error.
            tf.get_logger().setLevel("ERROR")
            reason = str(error).split("\n", 1)[0]
            flags = os.path.join(self._workdir, workdirs.FLAGS)
            raise UserError(
                f"checkpoint {path} is of another model, optimizer, averaging or precision "
                f"({reason}): give --flagfile={flags}, which has its flags, or another --workdir"
            ) from error

    def _print_damage(self, line: str) -> None:
        if self._chief:
            print(line, file=sys.stderr, flush=True)


def raise_diverged(what: str, saved: int) -> NoReturn:
    """Raises the UserError on `what` is not finite: what to change, and where the run continues."""
    begins = "begins anew, since nothing is saved yet"
    if saved:
        begins = f"goes on from the checkpoint at step {saved}"
    raise UserError(
        f"{what}: lower --learning_rate, and set --clip_norm=1 if that is not enough; "
        f"the run then {begins}"
    )


def _float_variables(checkpoint: tf.train.Checkpoint) -> list[tf.Variable]:
    """The floating-point variables that a checkpoint holds."""
    held = tf.train.TrackableView(checkpoint).descendants()
    # The view does not list the slots of tensorflow-addons' optimizers, of the older kind.
    legacy = [each for each in held if isinstance(each, tf_keras.optimizers.legacy.Optimizer)]
    slots = [variable for optimizer in legacy for variable in optimizer.variables()]
    variables = [each for each in (*held, *slots) if isinstance(each, tf.Variable)]
    return [variable for variable in variables if variable.dtype.is_floating]


def _is_broken(variable: tf.Variable, half_square_sum: tf.Tensor) -> bool:
    """Whether an element is not finite; a sum of squares may overflow where all of them are."""
    if math.isfinite(half_square_sum):
        return False
    return not bool(tf.reduce_all(tf.math.is_finite(variable)))


@contextlib.contextmanager
def report_full_disk(workdir: str) -> Iterator[None]:
    """Reports a full disk or a used-up quota in one line.

    Raises:
      UserError: the block failed for that, in Python or in TensorFlow.
    """
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        reason = next((each for each in _FULL_DISK_REASONS if each in str(error)), None)
        if reason is None:
            raise
        raise UserError(
            f"{_unwritten_file(error, reason) or workdir} takes no more ({reason}): make room and "
            f"run the same command again; the checkpoints in {workdir} are whole"
        ) from error


def _unwritten_file(error: Exception, reason: str) -> str | None:
    """The file that could not be written, in the workdir or elsewhere; None if it is not named."""
    if isinstance(error, OSError):
        return error.filename
    named = re.search(rf"(\S+); {reason}", str(error))  # TensorFlow's form
    return named and named[1]
