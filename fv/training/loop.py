"""The outer loop: when to log, validate and save. It knows nothing of what a step computes."""

import dataclasses
from collections.abc import Callable

import numpy as np

from fv.errors import UserError


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


def run(
    plan: Plan,
    first_step: int,
    *,
    run_steps: Callable[[int, int], np.ndarray],
    log: Callable[[int, np.ndarray], None],
    validate: Callable[[int], None],
    save: Callable[[int], None],
) -> None:
    """Goes from `first_step` to the plan's last step.

    Args:
      plan: when what happens.
      first_step: steps that earlier runs did.
      run_steps: (first step, number of steps) → the loss of each.
      log: (steps done, losses since the last log).
      validate: (steps done).
      save: (steps done).

    Raises:
      UserError: a loss is not finite; nothing is saved from then on.
    """
    step = first_step
    while step < plan.steps:
        stop = plan.next_stop(step)
        losses = run_steps(step, stop - step)
        _check_finite(losses, step)
        step = stop
        log(step, losses)
        if plan.is_due(plan.checkpoint_every, step):
            save(step)
        if plan.is_due(plan.validate_every, step):
            validate(step)


def _check_finite(losses: np.ndarray, first_step: int) -> None:
    broken = np.flatnonzero(~np.isfinite(losses))
    if broken.size:
        where = f"the loss is {losses[broken[0]]} at step {first_step + broken[0] + 1}"
        raise UserError(
            f"{where}: lower --learning_rate or set --clip_norm=1; the last checkpoint is whole, run again to go on"
        )
