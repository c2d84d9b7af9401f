"""Contestants that run without end, in turns."""

import sys

import pytest

from benchmarks import training, training_peers
from benchmarks.side_by_side import turns
from benchmarks.side_by_side.turns import Entrant, Turn
from benchmarks.training_peers import Work
from fv.model import siamese

TICK_S = 0.02
TICKING = (
    f"import time\nwhile True:\n  time.sleep({TICK_S})\n  print(repr(time.time()), flush=True)"
)


def entrant(program: str) -> Entrant:
    return Entrant((sys.executable, "-c", program), turns.printed_stamps)


def test_one_runs_at_a_time_and_those_that_cannot_are_named(tmp_path):
    missing = 'print(\'{"missing": "some_package"}\')'
    programs = {
        "a": TICKING,
        "absent": missing,
        "b": TICKING,
        "broken": "raise SystemExit('no luck')",
    }
    entrants = {name: entrant(program) for name, program in programs.items()}
    ran, absent = turns.run(entrants, turns=2, seconds=0.5, folder=str(tmp_path))
    assert absent == {"absent": "some_package is not installed", "broken": "no luck"} and set(
        ran
    ) == {"a", "b"}
    taken = {name: each.turns for name, each in ran.items()}
    a, b = taken.values()
    assert (
        a[0].end <= b[0].begin and b[0].end <= b[1].begin and b[1].end <= a[1].begin
    )  # the order moves on
    for name, other in (("a", "b"), ("b", "a")):
        stamps = ran[name].stamps()
        slept = [
            stamp
            for stamp in stamps
            for turn in taken[other]
            if turn.begin + 0.1 < stamp < turn.end
        ]
        assert not slept and all(rate > 5 for rate in turns.rates(stamps, taken[name]))


def test_a_rate_is_of_whole_intervals_within_a_turn():
    stamps = [0.5, 9.0, 11.0, 12.0, 13.0, 21.0]
    assert turns.rates(stamps, [Turn(10.0, 14.0, 1.0), Turn(20.0, 22.0, 1.0)]) == [1.0, None]
    assert turns.spread([3.0, None, 1.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert turns.spread([None])["median"] is None


class Measured:
    """A contestant that has run."""

    def __init__(self, seconds_per_stamp: float):
        self.started, self.turns = 100.0, [Turn(200.0, 260.0, 2.0), Turn(300.0, 360.0, 2.0)]
        self._seconds = seconds_per_stamp

    def stamps(self) -> list[float]:
        return [120.0 + i * self._seconds for i in range(1000)]


def test_figures_and_ratios_of_each_round():
    work = Work(image_size=139, pairs=16, stamp_steps=4)
    found = {
        "fv": training.summarise(Measured(4.0), work),
        "bare_step": training.summarise(Measured(5.0), work),
    }
    assert found["fv"]["images_per_s"]["median"] == pytest.approx(
        32.0
    )  # 2 × 16 images × 4 steps in 4 s
    assert (
        found["fv"]["images_per_cpu_s"]["median"] == pytest.approx(16.0)
        and found["fv"]["start_s"] == 16.0
    )
    assert training.compare(found)["bare_step"]["min"] == pytest.approx(1.25)
    report = {
        "runs": found,
        "fv_over": training.compare(found),
        "not_run": {"torch_timm": "timm is not installed"},
    }
    assert (
        "timm is not installed" in training.format_table(report)[-1]
        and "1.250" in training.format_table(report)[2]
    )


def test_an_unknown_peer_is_one_line(command, tmp_path):
    done = command("benchmarks/training.py", f"--tfrecords={tmp_path}", "--only=bare_step,no_such")
    assert done.returncode == 2 and "no_such" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_peers_train_as_many_weights_as_fv():
    work = Work(image_size=75, pairs=2)
    ours = siamese.build_siamese(training_peers.fv_model(work), identities=2)
    theirs = training_peers.build_keras(work)
    shapes = [
        sorted(tuple(each.shape) for each in model.trainable_variables) for model in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]
