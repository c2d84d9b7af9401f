import numpy as np
import pytest

from fv.errors import UserError
from fv.training import loop
from fv.training.loop import Plan


class Recorder:
    """Notes what the loop does, in order."""

    def __init__(self, losses=None):
        self.events, self.losses = [], losses

    def run(self, plan: Plan, first_step: int = 0) -> list:
        loop.run(
            plan,
            first_step,
            run_steps=self.run_steps,
            log=lambda step, losses: self.events.append(("log", step)),
            validate=lambda step: self.events.append(("validate", step)),
            save=lambda step: self.events.append(("save", step)),
        )
        return self.events

    def run_steps(self, first: int, count: int) -> np.ndarray:
        self.events.append(("run", first, count))
        return np.ones(count, np.float32) if self.losses is None else self.losses[first : first + count]


def test_steps_run_in_one_call_up_to_the_next_event():
    assert Recorder().run(Plan(steps=10, log_every=4, validate_every=6, checkpoint_every=0)) == [
        ("run", 0, 4),
        ("log", 4),
        ("run", 4, 2),
        ("log", 6),
        ("validate", 6),
        ("run", 6, 2),
        ("log", 8),
        ("run", 8, 2),
        ("log", 10),
        ("save", 10),
        ("validate", 10),
    ]


def test_a_resumed_run_stops_at_the_same_steps_as_an_undisturbed_one():
    plan = Plan(steps=10, log_every=4, validate_every=0, checkpoint_every=3)
    whole = Recorder().run(plan)
    resumed = Recorder().run(plan, first_step=6)
    assert resumed == whole[whole.index(("save", 6)) + 1 :]


def test_a_finished_run_does_nothing():
    assert Recorder().run(Plan(10, 1, 1, 1), first_step=10) == []


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_before_anything_is_saved_and_names_its_step(broken):
    losses = np.ones(10, np.float32)
    losses[6] = broken
    recorder = Recorder(losses)
    with pytest.raises(UserError, match=f"the loss is {broken} at step 7"):
        recorder.run(Plan(steps=10, log_every=4, validate_every=0, checkpoint_every=4))
    assert recorder.events[-1] == ("run", 4, 4) and ("save", 4) in recorder.events
