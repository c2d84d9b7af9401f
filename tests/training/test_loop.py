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
from fv.training.loop import Interruption, TrainingLoop
from fv.training.options import CheckpointOptions, ReportOptions, TrainOptions
from fv.training.strategy import Agreement
from fv.training.validation import Validation
from tests import waiting

AGREEMENT = Agreement(tf.distribute.OneDeviceStrategy("CPU:0"))

BUSY = """
import signal, sys, time
from fv import quiet_tensorflow
from fv.training.loop import Interruption
with Interruption() as interruption:
    print("ready", flush=True)
    time.sleep({seconds})
    print("requested" if interruption.requested else "not requested", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_requests_a_stop_and_its_echo_is_ignored(number, capsys):
    threads = threading.active_count()
    with Interruption() as interruption:
        assert not interruption.requested
        for _ in range(3):
            os.kill(os.getpid(), number)
        waiting.until(lambda: interruption.requested)
    waiting.until(lambda: threading.active_count() <= threads)
    assert capsys.readouterr().err.count(number.name) == 1


def test_former_signal_handlers_are_restored():
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


def test_a_second_signal_stops_at_once():
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", BUSY.format(seconds=30)], **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline().startswith("SIGTERM: saves and stops")
        time.sleep(1.2)  # a second signal within one is taken for an echo
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15.0) == 128 + signal.SIGTERM


def test_one_process_agrees_with_itself():
    assert AGREEMENT.mean(1.0, 2) == [1.0, 2.0]
    assert AGREEMENT.any(True) and not AGREEMENT.any(False) and AGREEMENT.same(7)


class Recorder:
    """Everything that the loop calls; notes the calls in order.

    Attributes:
      events: what was called, with the step.
      losses: of all steps; None for the number of the step.
      step_seconds: what the loop's clock says that a step takes.
      stop_at: step at which someone asks the run to stop.
      save_due_at: step at which the time between two checkpoints has passed.
      batches: number of batches of a validation; someone asks to stop after the first.
    """

    def __init__(self, losses: np.ndarray | None = None, *, step_seconds=0.01, stop_at=None):
        self.events, self.losses, self.step_seconds = [], losses, step_seconds
        self.stop_at, self.save_due_at, self.batches = stop_at, None, 0
        self.requested, self.seconds_since_save, self.was_validated = False, 0.0, True
        self.now, self.last_step = 0.0, 0

    def run(
        self, steps: int, log_every: int, validate_every: int, checkpoint_every: int, first_step=0
    ) -> list:
        """The calls of a run; the numbers are those of its flags."""
        report = ReportOptions(log_every=log_every, validate_every=validate_every)
        saving = CheckpointOptions(checkpoint_every=checkpoint_every)
        options = TrainOptions("", "", steps=steps, report=report, saving=saving)
        parts = dict.fromkeys(("reporter", "checkpoints", "validator"), self)
        self.last_step = first_step
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fv.training.loop.time.perf_counter", lambda: self.now)
            TrainingLoop(
                options, self.run_steps, agreement=AGREEMENT, interruption=self, **parts
            ).run(first_step)
        return self.events

    def run_steps(self, first: int, count: int) -> np.ndarray:
        self.events.append(("run", first, count))
        self.now += count * self.step_seconds
        done = range(first + 1, first + count + 1)
        self.requested = self.stop_at in done
        self.seconds_since_save = 1e6 if self.save_due_at in done else 0.0
        if self.losses is not None:
            return self.losses[first : first + count]
        return np.arange(first, first + count, dtype=np.float32)

    def log_first_call(self, step: int, losses: np.ndarray) -> None:
        self.events.append(("first", step, len(losses)))

    def log(self, step: int, losses: np.ndarray) -> None:
        self.events.append(("log", step, len(losses)))

    def save(self, step: int) -> None:
        self.events.append(("save", step))
        self.last_step = step

    def require_finite(self, step: int) -> None:
        self.events.append(("check", step))

    def validate(self, after_batch) -> Validation:
        for _ in range(self.batches):
            after_batch()
            self.requested = True
        return Validation(None, None, 0.9, 0.8, 0.5, None, None)

    def log_validation(self, step: int, result: Validation) -> None:
        assert result.auc == 0.8
        self.events.append(("validated", step))

    def note_validation(self, step: int, auc: float) -> None:
        assert self.events[-1] == ("validated", step) and auc == 0.8

    def validated(self, step: int) -> bool:
        return self.was_validated


def test_a_host_call_ends_at_the_next_event_and_the_first_after_one_step():
    assert Recorder().run(10, log_every=4, validate_every=6, checkpoint_every=0) == [
        ("run", 0, 1),
        ("first", 1, 1),
        ("run", 1, 3),
        ("log", 4, 4),
        ("run", 4, 2),
        ("log", 6, 2),
        ("check", 6),
        ("validated", 6),
        ("run", 6, 2),
        ("log", 8, 2),
        ("run", 8, 2),
        ("log", 10, 2),
        ("save", 10),
        ("check", 10),
        ("validated", 10),
    ]


@pytest.mark.parametrize(
    ("step_seconds", "calls"), [(2.5, [1, 2, 2, 1]), (20.0, [1] * 6), (0.1, [1, 5])]
)
def test_host_calls_last_five_seconds_at_most_and_a_step_at_least(step_seconds, calls):
    events = Recorder(step_seconds=step_seconds).run(6, 6, 0, 0)
    assert [event[2] for event in events if event[0] == "run"] == calls
    assert events[-4:] == [("log", 6, 6), ("save", 6), ("check", 6), ("validated", 6)]


def test_a_resumed_run_logs_saves_and_validates_at_the_same_steps():
    def events(first_step: int) -> list:
        found = Recorder().run(10, 4, 0, 3, first_step)
        return [event[:2] for event in found if event[0] not in ("run", "first")]

    whole = events(0)
    assert events(6) == whole[whole.index(("save", 6)) + 1 :]


def test_a_finished_run_only_validates_where_its_last_start_did_not():
    assert Recorder().run(10, 1, 1, 1, first_step=10) == []
    killed = Recorder()
    killed.was_validated = False
    assert killed.run(10, 1, 0, 1, first_step=10) == [("check", 10), ("validated", 10)]


@pytest.mark.parametrize(("step", "first"), [(5, "check"), (6, "run")])
def test_a_run_killed_between_saving_and_validating_validates_first(step, first):
    killed = Recorder()
    killed.was_validated = False
    assert killed.run(10, 5, 5, 5, first_step=step)[0][:2] == (first, step)


def test_a_checkpoint_by_time_is_saved_between_the_planned_ones():
    recorder = Recorder(step_seconds=5.0)
    recorder.save_due_at = 2
    events = recorder.run(4, 4, 0, 0)
    assert [event for event in events if event[0] == "save"] == [("save", 2), ("save", 4)]


def test_a_request_to_stop_logs_saves_and_stops_without_validating():
    recorder = Recorder(step_seconds=5.0, stop_at=3)
    with pytest.raises(Stopped, match="saved at step 3: the same command goes on"):
        recorder.run(9, log_every=9, validate_every=3, checkpoint_every=9)
    assert recorder.events[-2:] == [("log", 3, 3), ("save", 3)]


def test_a_request_to_stop_ends_a_validation_early_and_saves():
    recorder = Recorder()
    recorder.batches = 20
    with pytest.raises(Stopped, match="saved at step 3"):
        recorder.run(9, log_every=3, validate_every=3, checkpoint_every=9)
    assert recorder.events[-3:] == [("log", 3, 3), ("check", 3), ("save", 3)]


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_before_saving_and_names_its_step(broken):
    losses = np.ones(10, np.float32)
    losses[6] = broken
    recorder = Recorder(losses)
    with pytest.raises(
        UserError, match=f"the loss is {broken} at step 7.* goes on from the checkpoint at step 4"
    ):
        recorder.run(10, 4, 0, 4)
    assert recorder.events[-1] == ("run", 4, 4) and ("save", 4) in recorder.events


@pytest.mark.parametrize(
    ("first_step", "continues"),
    [(0, "begins anew, since nothing is saved yet"), (5, "goes on from the checkpoint at step 5")],
)
def test_a_loss_that_breaks_before_a_new_checkpoint_says_where_to_go_on(first_step, continues):
    losses = np.ones(10, np.float32)
    losses[6] = np.nan
    with pytest.raises(UserError, match=f"step 7.* the run then {continues}"):
        Recorder(losses).run(10, 4, 0, 0, first_step)


def test_only_the_first_host_call_is_reported_as_such():
    events = Recorder().run(9, 4, 0, 0, first_step=5)
    assert events[1] == ("first", 6, 1) and sum(event[0] == "first" for event in events) == 1
