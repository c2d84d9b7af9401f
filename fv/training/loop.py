"""The outer loop: when to log, validate and save. It knows nothing of what a step computes."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np

from fv.errors import Stopped
from fv.training.saving import divergence
from fv.training.saving.pulse import Beat, StopAsked


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


def run(plan: Plan, first_step: int, work: Work, *, validated: bool = True) -> None:
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
        divergence.require_finite_losses(losses[-1], step, saved)
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
