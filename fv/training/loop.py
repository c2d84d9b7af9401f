"""The outer loop: when to log, validate and save. It knows nothing of what a step computes."""

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from fv.errors import Stopped
from fv.training import checkpoints
from fv.training.checkpoints import Checkpoints
from fv.training.coordination import Agreement

# SIGTERM and SIGINT during training: the first asks to save and leave, the second leaves at once.

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ECHO_SECONDS = 1.0  # `timeout` and launchers signal a process and its group: what follows at once is the same request
_EXIT_SIGNAL = 128  # plus the signal's number, as shells report it


class Interruption:
    """Whether this process was asked to stop; it listens while it is entered, and only in the main thread.

    Python calls a signal's handler between two lines of Python, which a call into TensorFlow delays by seconds. A thread
    reads the signals' numbers instead, and so the second signal works at any moment.
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
            self._handlers = {number: signal.signal(number, _do_nothing) for number in _SIGNALS}
            threading.Thread(target=self._read_signals, args=(self._pipe[0],), daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        """Gives the signals back to whom they were before."""
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
                    f"{name}: saves and leaves after this step; again leaves at once",
                    file=sys.stderr,
                    flush=True,
                )
            elif time.monotonic() - first > _ECHO_SECONDS:
                os._exit(_EXIT_SIGNAL + number[0])
        os.close(pipe)


def _do_nothing(number: int, frame: object) -> None:
    """The thread has been told already."""


# What happens between two host calls beside the plan, at the same step in every worker.

_CALL_SECONDS = (
    5.0  # of a host call at most: Slurm and Kubernetes leave 30 between SIGTERM and SIGKILL
)
_SAVE_SECONDS = 600.0  # between two checkpoints at most
_BATCHES_UNHEARD = 8  # validation batches between two looks at the signals


class StopAsked(Exception):
    """A validation is broken off, for someone asked the run to stop."""


@dataclasses.dataclass(frozen=True)
class Beat:
    """What is to be done now: save and leave, save and go on; and how many steps the next host call may take."""

    leave: bool
    save: bool
    steps: int


class Pulse:
    """Asks all workers after each host call whether one was told to stop, and whether a checkpoint is due by time."""

    def __init__(
        self,
        agreement: Agreement,
        interruption: Interruption,
        checkpoints: Checkpoints,
        save_seconds: float = _SAVE_SECONDS,
    ):
        self._agreement, self._interruption, self._checkpoints = (
            agreement,
            interruption,
            checkpoints,
        )
        self._save_seconds, self._batches = save_seconds, 0

    def beat(self, steps: int, seconds: float) -> Beat:
        """The pulse after a host call of so many steps and seconds."""
        affordable = _CALL_SECONDS * steps / seconds
        due = self._checkpoints.seconds_since >= self._save_seconds
        leave, save, mean_steps = self._agreement.mean(
            self._interruption.requested, due, affordable
        )
        return Beat(leave > 0.0, save > 0.0, max(1, int(mean_steps)))

    def between_batches(self) -> None:
        """To be called after each validation batch, of which all workers have equally many.

        Raises:
          StopAsked: a worker was told to stop.
        """
        self._batches += 1
        if self._batches % _BATCHES_UNHEARD == 0 and self._agreement.any(
            self._interruption.requested
        ):
            raise StopAsked


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many steps a run has, and every how many of them something happens; 0 for only at the end."""

    steps: int
    log_every: int
    validate_every: int
    checkpoint_every: int

    def next_stop(self, step: int) -> int:
        """The first step behind `step` at which the host has something to do."""
        periods = (self.log_every, self.validate_every, self.checkpoint_every)
        return min([self.steps] + [step + period - step % period for period in periods if period])

    def is_due(self, period: int, step: int) -> bool:
        """Whether what happens every `period` steps happens at `step`."""
        return step == self.steps or (period > 0 and step % period == 0)


@dataclasses.dataclass(frozen=True)
class Work:
    """What the loop calls.

    Attributes:
      run_steps: (first step, number of steps) → the loss of each.
      log: (steps done, losses since the last log).
      validate: (steps done); raises StopAsked where it is broken off.
      save: (steps done), which does nothing where these are saved.
      beat: (steps of the last host call, its seconds) → what happens beside the plan.
      begin: (steps done, losses of the first host call), as soon as they are known.
    """

    run_steps: Callable[[int, int], np.ndarray]
    log: Callable[[int, np.ndarray], None]
    validate: Callable[[int], None]
    save: Callable[[int], None]
    beat: Callable[[int, float], Beat]
    begin: Callable[[int, np.ndarray], None] = lambda step, losses: None


def run_loop(plan: Plan, first_step: int, work: Work, *, validated: bool = True) -> None:
    """Goes from `first_step` to the plan's last step.

    A host call ends where the plan has something to do, or sooner, so that a request to stop is heard within seconds.

    Args:
      plan: when what happens.
      first_step: steps that earlier runs did.
      work: what happens.
      validated: whether the weights after `first_step` steps were validated, where the plan wants it.

    Raises:
      Stopped: someone asked for it; all is saved.
      UserError: a loss or a weight is not finite; nothing is saved from then on.
    """
    if first_step and not validated and plan.is_due(plan.validate_every, first_step):
        _validate(first_step, work)
    step, losses, affordable, saved = first_step, [], 1, first_step
    while step < plan.steps:
        count = min(plan.next_stop(step) - step, affordable)
        began = time.perf_counter()
        losses.append(work.run_steps(step, count))
        checkpoints.require_finite_losses(losses[-1], step, saved)
        if step == first_step:
            work.begin(step + count, losses[-1])
        step += count
        beat = work.beat(count, time.perf_counter() - began)
        affordable = beat.steps
        if beat.leave or step == plan.next_stop(step - 1):
            work.log(step, np.concatenate(losses))
            losses = []
        if beat.leave or beat.save or plan.is_due(plan.checkpoint_every, step):
            work.save(step)
            saved = step
        if beat.leave:
            _leave(step)
        if plan.is_due(plan.validate_every, step):
            _validate(step, work)


def _validate(step: int, work: Work) -> None:
    try:
        work.validate(step)
    except StopAsked:
        work.save(step)
        _leave(step)


def _leave(step: int) -> None:
    raise Stopped(f"stopped as asked, saved at step {step}: the same command goes on from there")
