import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from fv.errors import Stopped, UserError
from fv.training import loop
from fv.training.checkpoints import Checkpoints
from fv.training.coordination import Agreement
from fv.training.loop import Beat, Interruption, Plan, Pulse, StopAsked, Work
from tests import waiting

BUSY = """
import signal, sys, time
from fv.training.loop import Interruption
with Interruption() as interruption:
    print("ready", flush=True)
    time.sleep({seconds})
    print("requested" if interruption.requested else "not requested", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_its_echo_is_not_a_second_one(number, capsys):
    threads = threading.active_count()
    with Interruption() as interruption:
        assert not interruption.requested
        for _ in range(3):
            os.kill(os.getpid(), number)
        waiting.until(lambda: interruption.requested)
    waiting.until(lambda: threading.active_count() <= threads)
    assert capsys.readouterr().err.count(number.name) == 1


def test_signals_belong_to_whom_they_did_before_once_it_ends():
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            waiting.until(lambda: interruption.requested)
        assert not heard
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_signal_leaves_at_once():
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", BUSY.format(seconds=30)], **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline().startswith("SIGTERM: saves and leaves")
        time.sleep(1.2)  # a second signal within one is taken for an echo
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15.0) == 128 + signal.SIGTERM


AGREEMENT = Agreement(tf.distribute.OneDeviceStrategy("CPU:0"))


def pulse(
    tmp_path, seconds: float = 600.0, interruption: Interruption | None = None
) -> tuple[Pulse, Checkpoints]:
    checkpoints = Checkpoints(str(tmp_path), AGREEMENT, keep=3, chief=True)
    return Pulse(AGREEMENT, interruption or Interruption(), checkpoints, seconds), checkpoints


def test_host_calls_last_five_seconds_at_most_and_a_step_at_least(tmp_path):
    beating, _ = pulse(tmp_path)
    assert beating.beat(20, 2.0) == Beat(False, False, 50)
    assert beating.beat(3, 60.0) == Beat(False, False, 1)


def test_a_checkpoint_is_due_so_many_seconds_after_the_last(tmp_path):
    beating, checkpoints = pulse(tmp_path, seconds=0.5)
    assert not beating.beat(1, 1.0).save
    time.sleep(0.51)
    assert beating.beat(1, 1.0).save
    checkpoints.save(1)
    assert not beating.beat(1, 1.0).save


def test_a_signal_makes_it_leave_also_in_the_middle_of_a_validation(tmp_path):
    with Interruption() as interruption:
        beating, _ = pulse(tmp_path, interruption=interruption)
        for _ in range(20):
            beating.between_batches()
        os.kill(os.getpid(), signal.SIGTERM)
        waiting.until(lambda: interruption.requested)
        assert beating.beat(1, 1.0).leave
        with pytest.raises(StopAsked):
            for _ in range(20):
                beating.between_batches()


def test_one_process_agrees_with_itself():
    assert AGREEMENT.mean(1.0, 2) == [1.0, 2.0]
    assert AGREEMENT.any(True) and not AGREEMENT.any(False) and AGREEMENT.same(7)


class Recorder:
    """Notes what the loop does, in order; `beats` says what happens beside the plan after which step."""

    def __init__(self, losses=None, beats: dict[int, Beat] | None = None, affordable: int = 100):
        self.events, self.losses, self.beats, self.affordable = [], losses, beats or {}, affordable
        self.step, self.breaks_off = 0, False

    def run(self, plan: Plan, first_step: int = 0, validated: bool = True) -> list:
        self.step = first_step
        work = Work(self.run_steps, self.log, self.validate, self.save, self.beat)
        loop.run_loop(plan, first_step, work, validated=validated)
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
    loop.run_loop(Plan(9, 9, 0, 0), 0, work)
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
    loop.run_loop(Plan(9, 4, 0, 0), 5, work)
    assert told == [(6, 1, 1)]
