"""What is said where a disk takes no more, whatever was being written."""

import contextlib
import errno
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
import tf_keras

from fv import errors, files, ownership
from fv import workdir as workdirs
from fv.errors import UserError
from fv.model import checkpoint_files
from fv.training.coordination import Agreement

_REASONS = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT)))


@contextlib.contextmanager
def report_full_disk(workdir: str) -> Iterator[None]:
    """Says in one line that the disk is full, or the quota used up.

    Raises:
      UserError: the block failed for that, in Python or in TensorFlow.
    """
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        reason = next((reason for reason in _REASONS if reason in str(error)), None)
        if reason is None:
            raise
        raise UserError(
            f"{_place(error, reason) or workdir} takes no more ({reason}): make room and run the same command again; "
            f"what checkpoints there are in {workdir} are whole"
        ) from error


def _place(error: Exception, reason: str) -> str | None:
    """The file that could not be written, which may lie elsewhere than in the workdir; None where the error names none."""
    if isinstance(error, OSError):
        return error.filename
    named = re.search(rf"(\S+); {reason}", str(error))  # TensorFlow's form
    return named and named[1]


# Losses and weights that are no longer finite: they end a run before anything of them is saved.


class WeightCheck:
    """Looks for variables that hold an infinity or a NaN, on the devices where they are."""

    def __init__(self, agreement: Agreement, checkpoint: tf.train.Checkpoint):
        """Args: what the workers agree by, and what holds the variables."""
        self._agreement = agreement
        parts = tf.train.TrackableView(checkpoint).descendants()
        rules = [part for part in parts if isinstance(part, tf_keras.optimizers.legacy.Optimizer)]
        slots = [
            variable for rule in rules for variable in rule.variables()
        ]  # which are not among its parts
        variables = [part for part in (*parts, *slots) if isinstance(part, tf.Variable)]
        self._variables = [each for each in variables if each.dtype.is_floating]

    def find_broken(self) -> str | None:
        """The name of a variable that is not finite on some replica, None where all are.

        The workers of a cluster have to call it together. All of them find one where any of them does.
        """
        # Op by op, since tracing a graph of 750 variables takes seconds; nothing waits for a device before the last op.
        local = [
            self._agreement.strategy.experimental_local_results(variable)
            for variable in self._variables
        ]
        squares = [[tf.nn.l2_loss(each) for each in replicas] for replicas in local]
        broken = [
            variable.name
            for variable, replicas, sums in zip(self._variables, local, squares, strict=True)
            if any(
                not math.isfinite(total) and not _is_finite(each)
                for each, total in zip(replicas, sums, strict=True)
            )
        ]
        return (
            next(iter(broken), "a weight of another worker")
            if self._agreement.any(bool(broken))
            else None
        )


def _is_finite(variable: tf.Variable) -> bool:
    """A sum of squares may overflow where each number is finite."""
    return bool(tf.reduce_all(tf.math.is_finite(variable)))


def require_finite_losses(losses: np.ndarray, first_step: int, saved: int) -> None:
    """Checks the losses of the steps behind `first_step`; the last checkpoint is of step `saved`, 0 for none.

    Raises:
      UserError: one of them is not finite.
    """
    broken = np.flatnonzero(~np.isfinite(losses))
    if broken.size:
        raise_diverged(
            f"the loss is {losses[broken[0]]} at step {first_step + broken[0] + 1}", saved
        )


def raise_diverged(what: str, saved: int) -> None:
    """Raises the UserError that says what is not finite, what to change, and from which step the run then goes on."""
    begins = (
        f"goes on from the checkpoint at step {saved}"
        if saved
        else "begins anew, since nothing is saved yet"
    )
    raise UserError(
        f"{what}: lower --learning_rate, and set --clip_norm=1 if that is not enough; the run then {begins}"
    )


# The best checkpoint by validation, which the rotation of the last ones leaves alone.

FILE = (
    "validation.json"  # {"step": of the last validation, "metric", "best": its value, "best_step"}
)

_METRIC = "auc"


class BestCheckpoint:
    """Keeps the checkpoint that validated best, and remembers which steps were validated."""

    def __init__(self, workdir: str, agreement: Agreement, *, chief: bool):
        """Args:
        workdir: of the run.
        agreement: of the workers.
        chief: whether this process decides and writes.
        """
        self._workdir, self._path = workdir, os.path.join(workdir, workdirs.BEST, FILE)
        self._agreement, self._chief = agreement, chief
        self._known = files.load_json(self._path) if chief and files.exists(self._path) else {}

    def validated(self, step: int) -> bool:
        """Whether the weights after `step` steps, or later ones, were validated."""
        return self._agreement.any(self._chief and self._known.get("step", 0) >= step)

    def offer(self, step: int, auc: float, save: Callable[[int], None]) -> None:
        """Calls `save` where the validation after `step` steps found better weights than any before.

        It is noted when they are saved. A run that is killed in between validates that step again, and finds the same.
        """
        best = self._known["best"] if self._known.get("metric") == _METRIC else -math.inf
        if self._agreement.any(self._chief and auc > best):
            save(step)
            self._known |= {"metric": _METRIC, "best": auc, "best_step": step}
        self._known["step"] = step
        if self._chief:
            files.make_folder(os.path.dirname(self._path))
            ownership.record_digests(
                self._workdir, {f"{workdirs.BEST}/{FILE}": ownership.UNCHECKED}
            )
            files.save_json(self._known, self._path)


# Checkpoints: all that a run needs to go on as if nothing had happened, written whole or not at
# all.

_MISFITS = (
    tf.errors.OpError,
    AssertionError,
    ValueError,
    TypeError,
)  # TensorFlow raises each of them for some misfit

_KEPT = 3  # of the last checkpoints

# What the workers' shared variables raise while they are read: not the disk's fault (see `fv.training.coordination`).
_OF_WORKERS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


class Checkpoints:
    """The checkpoints of a training run: the last few, and one that is kept beside them."""

    def __init__(
        self,
        workdir: str,
        agreement: Agreement,
        *,
        chief: bool,
        keep: int = _KEPT,
        **parts: tf.Module,
    ):
        """Args:
        workdir: of the run.
        agreement: of the workers.
        chief: whether this process writes them; all take part in saving.
        keep: how many of the last ones are kept.
        parts: what is saved, each with all its variables made.
        """
        self._workdir, self._agreement, self._keep, self._chief = workdir, agreement, keep, chief
        self._folder = os.path.join(workdir, workdirs.CHECKPOINTS)
        self._written_into = workdir if chief else tempfile.gettempdir()
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self._checkpoint = tf.train.Checkpoint(step=self._step, **parts)
        self._check = WeightCheck(agreement, self._checkpoint)
        self._kept: list[str] = []
        self._checked: int | None = None  # the step whose weights were last found finite
        self._saved = time.monotonic()

    @property
    def last_step(self) -> int:
        """Steps before the last checkpoint that was restored or saved, 0 for none."""
        return checkpoint_files.checkpoint_step(self._kept[-1]) if self._kept else 0

    @property
    def seconds_since(self) -> float:
        """Time since the last save of this process, or since its start."""
        return time.monotonic() - self._saved

    def restore(self) -> int:
        """Restores the last whole checkpoint, if there is one, and returns the number of steps it had done.

        Raises:
          UserError: none of them is whole, the last whole one is of another run, or the workers find different ones.
        """
        path = checkpoint_files.find_last_whole(self._folder, self._tell)
        found = checkpoint_files.find_checkpoints(self._folder)
        if found and not path:
            raise UserError(
                f"no checkpoint in {self._folder} is whole: remove that folder and "
                f"{os.path.join(self._workdir, workdirs.BEST)} to start anew, or give another --workdir"
            )
        if not self._agreement.same(checkpoint_files.checkpoint_step(path) if path else 0):
            raise UserError(
                f"the workers find different checkpoints in {self._workdir}: give a --workdir that all of them share"
            )
        if path:
            if self._chief:  # these would be replaced when the run comes to their steps
                newer = [
                    each
                    for each in found[: found.index(path)]
                    if not checkpoint_files.is_listed(each)
                ]
                ownership.refuse_foreign(
                    [f"{os.path.basename(each)}.index" for each in newer], self._folder
                )
            self._read(path)
            broken = self._check.find_broken()
            if broken:  # an earlier fv saved it
                raise UserError(
                    f"{path} holds {broken}, which is not finite: remove {path}.*, the run then goes on before it"
                )
            self._kept = found[found.index(path) :][::-1]
        return self.last_step

    def save(self, step: int) -> None:
        """Saves the state after `step` steps where it is not saved yet, and removes the oldest of too many.

        Raises:
          UserError: a weight is not finite, the disk is full, or does not take it; the checkpoints before stay.
          TemporaryError: the disk does not take it, and this may pass.
        """
        if step == self.last_step:
            return
        path = checkpoint_files.checkpoint_path(self._folder, step)
        self._write(path, step)
        self._kept.append(path)
        self._saved = time.monotonic()
        surplus, self._kept = self._kept[: -self._keep], self._kept[-self._keep :]
        if self._chief:
            with self._writing(step):
                checkpoint_files.list_for_tensorflow(self._folder, self._kept)
                for old in surplus:
                    checkpoint_files.remove_checkpoint(old)

    def save_best(self, step: int) -> None:
        """Saves the state after `step` steps in place of what was best before; errors as in `save`."""
        folder = os.path.join(self._workdir, workdirs.BEST)
        earlier = checkpoint_files.find_checkpoints(folder)
        self._write(checkpoint_files.checkpoint_path(folder, step), step)
        if self._chief:
            for path in earlier:
                if checkpoint_files.checkpoint_step(path) != step:
                    checkpoint_files.remove_checkpoint(path)

    def require_finite(self, step: int) -> None:
        """Checks all that a checkpoint after `step` steps would hold; all workers have to call it together.

        Raises:
          UserError: a weight, an average or an optimizer's slot is not finite.
        """
        if step == self._checked:
            return  # a step is saved, validated and saved as the best one without an update in between
        broken = self._check.find_broken()
        if broken:
            raise_diverged(f"{broken} is not finite after step {step}", self.last_step)
        self._checked = step

    def _write(self, path: str, step: int) -> None:
        self.require_finite(step)
        self._step.assign(step)
        with self._writing(step):
            if self._chief:
                checkpoint_files.write_checkpoint(self._checkpoint, path)
                return
            # The workers' shared variables can only be read by all of them together.
            with tempfile.TemporaryDirectory(
                prefix="fv-checkpoint-", dir=self._written_into
            ) as scratch:
                self._checkpoint.write(os.path.join(scratch, "ckpt"))

    @contextlib.contextmanager
    def _writing(self, step: int) -> Iterator[None]:
        try:
            yield
        except _OF_WORKERS:
            raise
        except (tf.errors.OpError, OSError) as error:
            errors.raise_if_temporary(error)
            reason = str(error).split("\n", 1)[0].partition(" [Op:")[0].rpartition("; ")[2]
            whole = (
                f"the one at step {self.last_step} is whole"
                if self._kept
                else "there is none before it"
            )
            raise UserError(
                f"the checkpoint at step {step} cannot be written into {self._written_into} ({reason}); {whole}: "
                "make room and run the same command again"
            ) from error

    def _read(self, path: str) -> None:
        try:
            self._checkpoint.read(path).assert_existing_objects_matched()
        except _MISFITS as error:
            errors.raise_if_temporary(error)
            tf.get_logger().setLevel(
                "ERROR"
            )  # else a warning for each variable follows the one line of the refusal
            reason = str(error).split("\n", 1)[0]
            raise UserError(
                f"checkpoint {path} is of another model, optimizer, averaging or precision ({reason}): give "
                f"--flagfile={os.path.join(self._workdir, workdirs.FLAGS)}, which has its flags, or another --workdir"
            ) from error

    def _tell(self, line: str) -> None:
        if self._chief:
            print(line, file=sys.stderr, flush=True)
