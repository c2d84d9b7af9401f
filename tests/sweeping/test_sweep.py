import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

import pytest

from fv import cli, folder_lock
from fv.errors import Stopped, UserError
from fv.sweeping import plan
from fv.sweeping.options import SweepOptions
from fv.sweeping.sweep import sweep
from tests.sweeping import making

FAIL = "import sys; sys.exit('no space left')"
LEAVE_ONCE = "import pathlib, sys; mark = pathlib.Path(sys.argv[1], 'mark')\nif not mark.exists(): mark.touch(); sys.exit(138)\n"
WAIT = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(138))
pathlib.Path(sys.argv[1], "begun").touch()
time.sleep(30)
"""
ACCURACIES = {
    ("plain", 0): 0.70,
    ("plain", 1): 0.72,
    ("cutout", 0): 0.71,
    ("cutout", 1): 0.74,
    ("baseline", 0): 0.70,
}


@pytest.fixture
def planned(monkeypatch):
    """Runs that are scripts, with ACCURACIES."""
    making.replace_plan(
        monkeypatch, lambda run: making.stand_in(run, ACCURACIES[run.variant, run.seed])
    )


def content(options: SweepOptions) -> dict:
    return json.loads(pathlib.Path(options.output, "sweep.json").read_text())


def trained(options: SweepOptions) -> list[str]:
    """How often each finished run was trained, as words."""
    return [path.read_text() for path in sorted(pathlib.Path(options.output).glob("*/*/trained"))]


def test_means_and_paired_differences_are_in_both_files(planned, tmp_path, capsys):
    options = making.options(tmp_path)
    assert sweep(options) == 0
    cutout = content(options)["variants"]["cutout"]
    assert cutout["figures"]["accuracy"]["mean"] == pytest.approx(0.725)
    assert cutout["differences"]["accuracy"]["mean"] == pytest.approx(0.015)
    assert cutout["differences"]["accuracy"]["standard_error"] == pytest.approx(0.005)
    text = pathlib.Path(options.output, "sweep.md").read_text()
    assert "| cutout | 2 | 0.7250 ± 0.0212 |" in text and "+0.0150 ± 0.0050, within noise" in text
    assert (
        "200 pairs of test" in text and "0.0001" not in text and "Not in these tables" not in text
    )
    printed = capsys.readouterr().out
    assert (
        text in printed
        and "[2/4] cutout, seed 0: accuracy 0.7100" in printed
        and "2 left, about" in printed
    )


def test_what_is_finished_is_not_done_again(planned, tmp_path, capsys):
    options = making.options(tmp_path)
    sweep(options)
    first = pathlib.Path(options.output, "sweep.md").read_text()
    assert sweep(options) == 0 and trained(options) == ["once "] * 4
    assert "4 of 4 runs are finished already" in capsys.readouterr().out
    assert pathlib.Path(options.output, "sweep.md").read_text() == first


def test_figures_that_are_no_numbers_are_measured_again(planned, tmp_path):
    options = making.options(tmp_path)
    sweep(options)
    figures = pathlib.Path(options.output, "plain", "seed_0", "evaluation", "metrics.json")
    sound = figures.read_text()
    figures.write_text(json.dumps(json.loads(sound) | {"accuracy": float("nan")}))
    assert (
        sweep(options) == 0 and figures.read_text() == sound and trained(options) == ["once "] * 4
    )
    assert content(options)["variants"]["plain"]["figures"]["accuracy"]["mean"] == pytest.approx(
        0.71
    )


def test_other_flags_of_evaluation_evaluate_again_and_train_nothing(planned, tmp_path):
    options = making.options(tmp_path)
    sweep(options)
    sweep(dataclasses.replace(options, evaluate_flags="--flip"))
    assert trained(options) == ["once "] * 4
    assert [run["evaluation"]["cpu_seconds"] > 0 for run in content(options)["runs"]] == [True] * 4
    flags = pathlib.Path(
        options.output, "plain", "seed_0", "evaluation", "evaluate.flags"
    ).read_text()
    assert "--flip=true" in flags


def test_whitened_models_are_evaluated_in_place_of_those_before_and_whitened_once(
    planned, tmp_path
):
    options = making.options(tmp_path)
    sweep(options)
    for flags in ("", "--flip"):  # a folder that is there already would fail
        assert sweep(dataclasses.replace(options, whiten=True, evaluate_flags=flags)) == 0
        scored = pathlib.Path(
            options.output, "plain", "seed_0", "evaluation", "evaluate.flags"
        ).read_text()
        assert f"--workdir={options.output}/plain/seed_0/whitened\n" in scored
    assert trained(options) == ["once "] * 4


def test_other_flags_of_training_are_refused_or_on_demand_repeated(planned, tmp_path):
    options = making.options(tmp_path)
    sweep(options)
    changed = dataclasses.replace(options, train_flags="--steps=40")
    with pytest.raises(
        UserError,
        match=r"seed_0 was begun otherwise: --steps was 30 and is 40 \(4 runs have changed\)",
    ):
        sweep(changed)
    assert sweep(dataclasses.replace(changed, report_only=True)) == 0
    assert {run["state"] for run in content(options)["runs"]} == {"changed"}
    assert (
        sweep(dataclasses.replace(changed, rerun_changed=True)) == 0
        and trained(options) == ["once "] * 4
    )
    assert {run["state"] for run in content(options)["runs"]} == {"finished"}


def test_a_run_that_is_repeated_loses_nothing_that_lay_in_its_folder(planned, tmp_path):
    options = making.options(tmp_path, variants=None, seeds=1)
    for steps in (30, 40, 50):
        sweep(dataclasses.replace(options, train_flags=f"--steps={steps}", rerun_changed=True))
        pathlib.Path(options.output, "baseline", "seed_0", "notes.txt").write_text(f"{steps}")
    kept = sorted(pathlib.Path(options.output).rglob("notes.txt"))
    assert [path.read_text() for path in kept] == ["50", "30", "40"]
    assert [path.parent.name for path in kept] == ["seed_0", "seed_0-1", "seed_0-2"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sweep.json", r"did not write, .*: sweep\.json;"),
        ("sweep.md", r"did not write, .*: sweep\.md;"),
        ("baseline/seed_0/attempts.json", "is not the record of a sweep: move it away"),
        ("baseline/seed_0/run.json", "is not the record of a run of fv.train: move it away"),
    ],
)
def test_a_file_that_no_sweep_wrote_is_refused_and_stays(planned, tmp_path, name, said):
    options = making.options(tmp_path, variants=None, seeds=1)
    path = pathlib.Path(options.output, name)
    path.parent.mkdir(parents=True)
    path.write_text('{"mine": 1}')
    with pytest.raises(UserError, match=said):
        sweep(options)
    assert path.read_text() == '{"mine": 1}'


def test_the_tables_of_an_earlier_fv_are_replaced(planned, tmp_path):
    options = making.options(tmp_path, variants=None, seeds=1)
    sweep(options)
    shutil.rmtree(pathlib.Path(options.output, ".fv"))
    assert sweep(options) == 0


def test_other_shards_are_noticed(planned, tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "manifest.json").write_text("{}")
    options = making.options(tmp_path, tfrecords=str(tmp_path / "shards"))
    sweep(options)
    for path in pathlib.Path(options.output).glob("*/*/run.json"):
        record = json.loads(path.read_text())
        record["starts"][-1]["manifest_sha256"] = "of other shards"
        path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="the shards in .* are others"):
        sweep(options)


def test_a_failing_run_is_reported_and_the_others_go_on(monkeypatch, tmp_path, capsys):
    def fail_one(run):
        return making.stand_in(
            run, train=FAIL if (run.variant, run.seed) == ("cutout", 0) else making.TRAIN
        )

    making.replace_plan(monkeypatch, fail_one)
    options = making.options(tmp_path)
    assert sweep(options) == cli.EXIT_ERROR
    said = "cutout, seed 0: failed: training left with exit code 1: no space left"
    assert said in capsys.readouterr().out
    assert [run["state"] for run in content(options)["runs"]] == [
        "finished",
        "failed",
        "finished",
        "finished",
    ]
    assert content(options)["variants"]["cutout"]["differences"]["accuracy"]["seeds"] == 1
    making.replace_plan(monkeypatch, making.stand_in)
    assert sweep(options) == 0


@pytest.mark.parametrize("code", [cli.EXIT_SAVED, cli.EXIT_TEMPORARY])
def test_training_that_can_go_on_is_started_again(monkeypatch, tmp_path, code):
    leave_once = LEAVE_ONCE.replace("138", str(code))
    making.replace_plan(
        monkeypatch, lambda run: making.stand_in(run, train=leave_once + making.TRAIN)
    )
    options = making.options(tmp_path, variants=None, seeds=1)
    assert sweep(options) == 0
    found = json.loads(
        pathlib.Path(options.output, "baseline", "seed_0", "attempts.json").read_text()
    )["attempts"]
    assert [(attempt["what"], attempt["exit_code"]) for attempt in found] == [
        ("training", code),
        ("training", 0),
        ("evaluation", 0),
    ]


def test_138_again_and_again_fails(monkeypatch, tmp_path):
    making.replace_plan(
        monkeypatch, lambda run: making.stand_in(run, train="import sys; sys.exit(138)")
    )
    assert sweep(making.options(tmp_path, variants=None, seeds=1)) == cli.EXIT_ERROR


def test_sigterm_reaches_the_child_and_the_next_start_goes_on(monkeypatch, tmp_path):
    options = making.options(tmp_path)
    making.replace_plan(
        monkeypatch,
        lambda run: making.stand_in(run, train=making.TRAIN if run.variant == "plain" else WAIT),
    )
    begun = pathlib.Path(options.output, "cutout", "seed_0", "begun")

    def signal_when_begun():
        while not begun.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=signal_when_begun, daemon=True).start()
    with pytest.raises(Stopped, match="stopped at cutout, seed 0; the same command goes on there"):
        sweep(options)
    assert [run["state"] for run in content(options)["runs"]] == [
        "finished",
        "missing",
        "missing",
        "missing",
    ]
    assert (
        "\n- cutout, seed 0, 1: missing\n" in pathlib.Path(options.output, "sweep.md").read_text()
    )
    making.replace_plan(monkeypatch, making.stand_in)
    assert sweep(options) == 0 and trained(options) == ["once "] * 4


def test_a_training_run_that_a_killed_sweep_left_behind_is_waited_for(
    planned, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr("fv.sweeping.sweep._LOOK_SECONDS", 0.01)
    options = making.options(tmp_path, variants=None, seeds=1)
    (run,) = plan.plan(options)
    os.makedirs(run.workdir)

    def hold_and_finish():
        with folder_lock.held(run.workdir, "busy"):
            held.set()
            while "another process trains" not in "".join(said):
                said.append(capsys.readouterr().out)
            subprocess.run(run.train_command, check=True)

    held, said = threading.Event(), []
    other = threading.Thread(target=hold_and_finish)
    other.start()
    held.wait()
    assert sweep(options) == 0 and trained(options) == ["once "]
    other.join()


def test_the_time_of_a_killed_attempt_is_not_made_up(planned, tmp_path):
    options = making.options(tmp_path, variants=None, seeds=1)
    workdir = pathlib.Path(options.output, "baseline", "seed_0")
    workdir.mkdir(parents=True)
    lost = {"what": "training", "exit_code": None, "wall_seconds": None, "cpu_seconds": None}
    (workdir / "attempts.json").write_text(json.dumps({"attempts": [lost]}))
    assert sweep(options) == 0
    assert content(options)["runs"][0]["training"]["complete"] is False
    assert "| ≥ 0.0 |" in pathlib.Path(options.output, "sweep.md").read_text()


def test_only_some_variants_run_and_all_that_is_finished_is_in_the_table(planned, tmp_path):
    options = making.options(tmp_path)
    sweep(dataclasses.replace(options, only="plain"))
    sweep(dataclasses.replace(options, only="cutout", seeds=1))
    assert [run["state"] for run in content(options)["runs"]] == ["finished", "finished"]
    assert sweep(dataclasses.replace(options, report_only=True)) == 0
    assert [run["state"] for run in content(options)["runs"]] == [
        "finished",
        "finished",
        "finished",
        "missing",
    ]


def test_a_second_sweep_in_the_same_folder_is_refused(planned, tmp_path):
    options = making.options(tmp_path)
    os.makedirs(options.output)
    with (
        folder_lock.held(options.output, "busy"),
        pytest.raises(UserError, match="another sweep works in"),
    ):
        sweep(options)


@pytest.mark.slow
def test_a_real_run_is_trained_evaluated_and_recognised(shards, tmp_path, capsys):
    flags = "--backbone=tiny --image_size=32 --steps=20 --global_batch_size=8 --noaugment --validate_every=0"
    folder = str(tmp_path / "sweep")
    evaluating = "--nobaselines --bootstrap=0"
    options = SweepOptions(
        str(shards), folder, train_flags=flags, seeds=1, evaluate_flags=evaluating, whiten=True
    )
    assert sweep(options) == 0, capsys.readouterr().out
    (run,) = content(options)["runs"]
    assert (
        run["state"] == "finished"
        and 0.5 <= run["figures"]["AUC"] <= 1
        and run["training"]["cpu_seconds"] > 1
    )
    assert sweep(options) == 0 and "1 of 1 runs are finished already" in capsys.readouterr().out
    with pytest.raises(UserError, match="--steps was 20 and is 40"):
        sweep(dataclasses.replace(options, train_flags=flags.replace("--steps=20", "--steps=40")))
