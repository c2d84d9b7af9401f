import time

import numpy as np
import pytest

from fv.errors import Stopped, UserError
from fv.training import loop
from fv.training.loop import Plan, Work
from fv.training.saving.pulse import Beat, StopAsked


class Recorder:
    """Notes what the loop does, in order; `beats` says what happens beside the plan after which step."""

    def __init__(self, losses=None, beats: dict[int, Beat] | None = None, affordable: int = 100):
        self.events, self.losses, self.beats, self.affordable = [], losses, beats or {}, affordable
        self.step, self.breaks_off = 0, False

    def run(self, plan: Plan, first_step: int = 0, validated: bool = True) -> list:
        self.step = first_step
        work = Work(self.run_steps, self.log, self.validate, self.save, self.beat)
        loop.run(plan, first_step, work, validated=validated)
        return self.events

    def run_steps(self, first: int, count: int) -> np.ndarray:
        self.events.append(("run", first, count))
        self.step = first + count
        return (
            np.arange(first, first + count, dtype=np.float32)
            if self.losses is None
            else self.losses[first : first + count]
        )

    def log(self, step: int, losses: np.ndarray) -> None:
        self.events.append(("log", step, len(losses)))

    def validate(self, step: int) -> None:
        self.events.append(("validate", step))
        if self.breaks_off:
            raise StopAsked

    def save(self, step: int) -> None:
        self.events.append(("save", step))

    def beat(self, steps: int, seconds: float) -> Beat:
        return self.beats.get(self.step, Beat(False, False, self.affordable))


def test_steps_run_in_one_call_up_to_the_next_event_but_for_the_first_which_is_alone():
    assert Recorder().run(Plan(steps=10, log_every=4, validate_every=6, checkpoint_every=0)) == [
        ("run", 0, 1),
        ("run", 1, 3),
        ("log", 4, 4),
        ("run", 4, 2),
        ("log", 6, 2),
        ("validate", 6),
        ("run", 6, 2),
        ("log", 8, 2),
        ("run", 8, 2),
        ("log", 10, 2),
        ("save", 10),
        ("validate", 10),
    ]


def test_slow_steps_come_a_few_at_a_time_and_are_logged_together():
    events = Recorder(affordable=2).run(
        Plan(steps=6, log_every=6, validate_every=0, checkpoint_every=0)
    )
    assert events[:4] == [("run", 0, 1), ("run", 1, 2), ("run", 3, 2), ("run", 5, 1)]
    assert events[4:] == [("log", 6, 6), ("save", 6), ("validate", 6)]


def test_a_resumed_run_logs_saves_and_validates_at_the_same_steps_as_an_undisturbed_one():
    def told(events: list) -> list:
        return [event[:2] for event in events if event[0] != "run"]

    plan = Plan(steps=10, log_every=4, validate_every=0, checkpoint_every=3)
    whole, resumed = told(Recorder().run(plan)), told(Recorder().run(plan, first_step=6))
    assert resumed == whole[whole.index(("save", 6)) + 1 :]


def test_a_finished_run_does_nothing_but_what_its_last_start_did_not_come_to():
    assert Recorder().run(Plan(10, 1, 1, 1), first_step=10) == []
    assert Recorder().run(Plan(10, 1, 0, 1), first_step=10, validated=False) == [("validate", 10)]


def test_a_run_that_was_killed_between_saving_and_validating_validates_first():
    plan = Plan(steps=10, log_every=5, validate_every=5, checkpoint_every=5)
    assert Recorder().run(plan, first_step=5, validated=False)[0] == ("validate", 5)
    assert Recorder().run(plan, first_step=6, validated=False)[0] == ("run", 6, 1)


def test_a_checkpoint_by_time_is_saved_between_the_planned_ones():
    recorder = Recorder(beats={2: Beat(False, True, 1)}, affordable=1)
    events = recorder.run(Plan(steps=4, log_every=4, validate_every=0, checkpoint_every=0))
    assert [event for event in events if event[0] == "save"] == [("save", 2), ("save", 4)]


def test_a_request_to_stop_saves_the_steps_that_were_done_and_leaves_without_validating():
    recorder = Recorder(beats={3: Beat(True, False, 1)}, affordable=1)
    with pytest.raises(Stopped, match="saved at step 3: the same command goes on"):
        recorder.run(Plan(steps=9, log_every=9, validate_every=3, checkpoint_every=9))
    assert recorder.events[-2:] == [("log", 3, 3), ("save", 3)]


def test_a_request_to_stop_in_the_middle_of_a_validation_saves_too():
    recorder = Recorder()
    recorder.breaks_off = True
    with pytest.raises(Stopped, match="saved at step 3"):
        recorder.run(Plan(steps=9, log_every=3, validate_every=3, checkpoint_every=9))
    assert recorder.events[-2:] == [("validate", 3), ("save", 3)]


def test_the_beat_is_told_how_long_the_steps_took():
    told = []

    def run_steps(first: int, count: int) -> np.ndarray:
        time.sleep(0.02 * count)
        return np.zeros(count, np.float32)

    def beat(steps: int, seconds: float) -> Beat:
        told.append(seconds / steps)
        return Beat(False, False, 4)

    work = Work(run_steps, *[lambda *_: None] * 3, beat)
    loop.run(Plan(9, 9, 0, 0), 0, work)
    assert len(told) == 3 and min(told) >= 0.02


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_before_anything_is_saved_and_names_its_step(broken):
    losses = np.ones(10, np.float32)
    losses[6] = broken
    recorder = Recorder(losses)
    with pytest.raises(
        UserError, match=f"the loss is {broken} at step 7.* goes on from the checkpoint at step 4"
    ):
        recorder.run(Plan(steps=10, log_every=4, validate_every=0, checkpoint_every=4))
    assert recorder.events[-1] == ("run", 4, 4) and ("save", 4) in recorder.events


def test_a_loss_that_breaks_before_the_first_checkpoint_promises_none():
    losses = np.ones(10, np.float32)
    losses[6] = np.nan
    with pytest.raises(
        UserError, match="step 7.* the run then begins anew, since nothing is saved yet"
    ):
        Recorder(losses).run(Plan(steps=10, log_every=4, validate_every=0, checkpoint_every=0))
    with pytest.raises(UserError, match="step 7.* goes on from the checkpoint at step 5"):
        Recorder(losses).run(
            Plan(steps=10, log_every=4, validate_every=0, checkpoint_every=0), first_step=5
        )


def test_the_first_host_call_is_reported_at_once_and_no_other():
    told, recorder = [], Recorder()
    parts = (recorder.run_steps, recorder.log, recorder.validate, recorder.save, recorder.beat)
    work = Work(
        *parts, begin=lambda step, losses: told.append((step, len(losses), len(recorder.events)))
    )
    loop.run(Plan(9, 4, 0, 0), 5, work)
    assert told == [(6, 1, 1)]
