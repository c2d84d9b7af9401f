"""The training loop: runs steps, and logs, saves and validates at the planned ones.

Every worker of a cluster runs it, and all of them decide the same between two host calls. What a
step computes is in `fv.training.step`.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from fv.errors import Stopped
from fv.training import checkpoints as checkpoints_module
from fv.training.checkpoints import Checkpoints
from fv.training.monitoring import Reporter
from fv.training.options import TrainOptions
from fv.training.strategy import Agreement
from fv.training.validation import Validator

# Longest host call, in seconds: Slurm and Kubernetes wait 30 between SIGTERM and SIGKILL.
_CALL_SECONDS = 5.0
_SAVE_SECONDS = 600.0  # between two checkpoints at most
_BATCHES_PER_CHECK = 8  # validation batches between two checks for a request to stop
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# `timeout` and launchers signal a process and then its group: the second is the same request.
_ECHO_SECONDS = 1.0
_EXIT_SIGNAL = 128  # plus the signal's number, as shells report it


class StopRequested(Exception):
    """Ends a validation early, because a worker was asked to stop."""


class TrainingLoop:
    """Runs the steps of a training run, and logs, saves and validates in between."""

    def __init__(
        self,
        options: TrainOptions,
        run_steps: Callable[[int, int], np.ndarray],
        *,
        agreement: Agreement,
        interruption: "Interruption",
        reporter: Reporter,
        checkpoints: Checkpoints,
        validator: Validator | None,
    ):
        """Args:
        options: of the run.
        run_steps: (steps done before, number of steps) → the loss of each step.
        agreement: between the workers.
        interruption: knows whether this process was asked to stop.
        reporter: shows losses and validations.
        checkpoints: saves the state after a step, and keeps the one that validated best.
        validator: None where there are no validation pairs.
        """
        self._options, self._run_steps = options, run_steps
        self._agreement, self._interruption = agreement, interruption
        self._reporter, self._checkpoints = reporter, checkpoints
        self._validator, self._validated_batches = validator, 0

    def run(self, first_step: int) -> None:
        """Trains from `first_step`, the steps that earlier starts did, to the last step.

        A host call ends at the next planned event, or earlier, so that a request to stop is
        answered within seconds.

        Raises:
          Stopped: a worker was asked to stop; everything is saved.
          UserError: a loss or a weight is not finite; nothing is saved from then on.
        """
        validation_due = first_step and self._validation_is_due(first_step)
        if validation_due and not self._checkpoints.validated(first_step):
            self._validate(first_step)  # the run was killed between saving and validating
        checkpoint_every = self._options.saving.checkpoint_every
        step, call_steps = first_step, 1
        losses: list[np.ndarray] = []
        while step < self._options.steps:
            next_event = self._next_event(step)
            count = min(next_event - step, call_steps)
            began = time.perf_counter()
            losses.append(self._run_steps(step, count))
            self._require_finite(losses[-1], step)
            if step == first_step:
                self._reporter.log_first_call(step + count, losses[-1])
            step += count
            stop, save, call_steps = self._decide(count, time.perf_counter() - began)
            if stop or step == next_event:
                self._reporter.log(step, np.concatenate(losses))
                losses = []
            if stop or save or self._is_due(checkpoint_every, step):
                self._checkpoints.save(step)
            if stop:
                self._raise_stopped(step)
            if self._validation_is_due(step):
                self._validate(step)

    def _next_event(self, step: int) -> int:
        """The first step after `step` at which the host logs, validates or saves."""
        report, saving = self._options.report, self._options.saving
        periods = (report.log_every, report.validate_every, saving.checkpoint_every)
        events = [step + period - step % period for period in periods if period]
        return min(self._options.steps, *events)

    def _is_due(self, period: int, step: int) -> bool:
        """Whether an event of every `period` steps happens at `step`; 0 is for only at the end."""
        return step == self._options.steps or (period > 0 and step % period == 0)

    def _validation_is_due(self, step: int) -> bool:
        return self._is_due(self._options.report.validate_every, step)

    def _require_finite(self, losses: np.ndarray, first_step: int) -> None:
        """Raises UserError where a loss of the steps after `first_step` is not finite."""
        broken = np.flatnonzero(~np.isfinite(losses))
        if broken.size:
            step = first_step + broken[0] + 1
            checkpoints_module.raise_diverged(
                f"the loss is {losses[broken[0]]} at step {step}", self._checkpoints.last_step
            )

    def _decide(self, steps: int, seconds: float) -> tuple[bool, bool, int]:
        """Decides with all workers, after a host call of so many steps and seconds.

        Returns:
          Whether to stop; whether to save; the most steps of the next host call.
        """
        affordable = _CALL_SECONDS * steps / seconds
        save_due = self._checkpoints.seconds_since_save >= _SAVE_SECONDS
        stop, save, mean_steps = self._agreement.mean(
            self._interruption.requested, save_due, affordable
        )
        return stop > 0.0, save > 0.0, max(1, int(mean_steps))

    def _validate(self, step: int) -> None:
        if self._validator is None:
            return
        self._checkpoints.require_finite(step)  # scores of broken weights would mean nothing
        try:
            result = self._validator.validate(self._check_between_batches)
        except StopRequested:
            self._checkpoints.save(step)
            self._raise_stopped(step)
        self._reporter.log_validation(step, result)
        self._checkpoints.note_validation(step, result.auc)

    def _check_between_batches(self) -> None:
        """Raises StopRequested where a worker was asked to stop; all have equally many batches."""
        self._validated_batches += 1
        check = self._validated_batches % _BATCHES_PER_CHECK == 0
        if check and self._agreement.any(self._interruption.requested):
            raise StopRequested

    def _raise_stopped(self, step: int) -> NoReturn:
        raise Stopped(
            f"stopped as asked, saved at step {step}: the same command goes on from there"
        )


class Interruption:
    """Listens for SIGTERM and SIGINT while it is entered, if that is in the main thread.

    The first signal sets `requested`; a later one ends the process at once. A thread reads the
    signals from a pipe: Python runs a signal's handler only between two lines of Python, which a
    call into TensorFlow delays by seconds.
    """

    def __init__(self):
        self.requested = False
        self._listens = threading.current_thread() is threading.main_thread()
        self._handlers, self._wakeup, self._pipe = {}, -1, (-1, -1)

    def __enter__(self) -> "Interruption":
        if self._listens:
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            # Without a handler the signals would end the process before the thread reads them.
            self._handlers = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
            threading.Thread(target=self._read_signals, args=(self._pipe[0],), daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        """Restores the handlers of before."""
        if self._listens:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            os.close(self._pipe[1])  # ends the thread

    def _read_signals(self, pipe: int) -> None:
        first = None
        while number := os.read(pipe, 1):
            if number[0] not in _SIGNALS:
                continue
            if first is None:
                first, self.requested = time.monotonic(), True
                name = signal.Signals(number[0]).name
                print(
                    f"{name}: saves and stops after this step; a second signal stops at once",
                    file=sys.stderr,
                    flush=True,
                )
            elif time.monotonic() - first > _ECHO_SECONDS:
                os._exit(_EXIT_SIGNAL + number[0])
        os.close(pipe)
