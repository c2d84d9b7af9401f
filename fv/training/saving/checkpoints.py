"""Checkpoints: all that a run needs to go on as if nothing had happened, written whole or not at all."""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator

import tensorflow as tf

from fv import errors, ownership
from fv import workdir as workdirs
from fv.errors import UserError
from fv.model import checkpoint_files
from fv.training.clusters.agreement import Agreement
from fv.training.saving import divergence
from fv.training.saving.divergence import WeightCheck

_MISFITS = (
    tf.errors.OpError,
    AssertionError,
    ValueError,
    TypeError,
)  # TensorFlow raises each of them for some misfit

_KEPT = 3  # of the last checkpoints

# What the workers' shared variables raise while they are read: not the disk's fault (see `fv.training.clusters.losing`).
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
        return checkpoint_files.step_of(self._kept[-1]) if self._kept else 0

    @property
    def seconds_since(self) -> float:
        """Time since the last save of this process, or since its start."""
        return time.monotonic() - self._saved

    def restore(self) -> int:
        """Restores the last whole checkpoint, if there is one, and returns the number of steps it had done.

        Raises:
          UserError: none of them is whole, the last whole one is of another run, or the workers find different ones.
        """
        path = checkpoint_files.find_whole(self._folder, self._tell)
        found = checkpoint_files.find(self._folder)
        if found and not path:
            raise UserError(
                f"no checkpoint in {self._folder} is whole: remove that folder and "
                f"{os.path.join(self._workdir, workdirs.BEST)} to start anew, or give another --workdir"
            )
        if not self._agreement.same(checkpoint_files.step_of(path) if path else 0):
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
                ownership.require_none(
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
        path = checkpoint_files.path_of(self._folder, step)
        self._write(path, step)
        self._kept.append(path)
        self._saved = time.monotonic()
        surplus, self._kept = self._kept[: -self._keep], self._kept[-self._keep :]
        if self._chief:
            with self._writing(step):
                checkpoint_files.list_for_tensorflow(self._folder, self._kept)
                for old in surplus:
                    checkpoint_files.remove(old)

    def save_best(self, step: int) -> None:
        """Saves the state after `step` steps in place of what was best before; errors as in `save`."""
        folder = os.path.join(self._workdir, workdirs.BEST)
        earlier = checkpoint_files.find(folder)
        self._write(checkpoint_files.path_of(folder, step), step)
        if self._chief:
            for path in earlier:
                if checkpoint_files.step_of(path) != step:
                    checkpoint_files.remove(path)

    def require_finite(self, step: int) -> None:
        """Checks all that a checkpoint after `step` steps would hold; all workers have to call it together.

        Raises:
          UserError: a weight, an average or an optimizer's slot is not finite.
        """
        if step == self._checked:
            return  # a step is saved, validated and saved as the best one without an update in between
        broken = self._check.find_broken()
        if broken:
            divergence.raise_diverged(f"{broken} is not finite after step {step}", self.last_step)
        self._checked = step

    def _write(self, path: str, step: int) -> None:
        self.require_finite(step)
        self._step.assign(step)
        with self._writing(step):
            if self._chief:
                checkpoint_files.write(self._checkpoint, path)
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
