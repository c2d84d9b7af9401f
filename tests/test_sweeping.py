"""Tests of fv.sweeping."""

import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest

from fv import cli, files, sweeping
from fv import options as fv_options
from fv.errors import Stopped, UserError
from fv.sweeping import Run, SweepOptions, sweep

ROOT = pathlib.Path(__file__).parent.parent
VARIANTS = "# two of them\nplain:\ncutout: --cutout=0.3   # a square\n"
ACCURACIES = {("plain", 0): 0.70, ("plain", 1): 0.72, ("cutout", 0): 0.71, ("cutout", 1): 0.74}
# Scripts that leave in a workdir what the commands leave there, in milliseconds.
TRAIN = """
import json, pathlib, sys
folder, flags, steps = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
(folder / "train.flags").write_text(flags)
ended = {"reason": "finished", "step": steps}
(folder / "run.json").write_text(json.dumps({"starts": [{"ended": ended}]}))
with open(folder / "trained", "a") as file:
    file.write("once ")
"""
WHITEN = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1], "whitened")
folder.mkdir()
(folder / "model.json").write_text("{}")
"""
EVALUATE = """
import json, pathlib, sys
folder, flags, accuracy = pathlib.Path(sys.argv[1], "evaluation"), sys.argv[2], float(sys.argv[3])
folder.mkdir(exist_ok=True)
tar = {"0.1": {"tar": accuracy - 0.1}, "0.0001": {"tar": None}}
figures = dict(accuracy=accuracy, auc=accuracy, eer=1 - accuracy, tar_at_far=tar, split="test")
(folder / "metrics.json").write_text(json.dumps(figures | dict(pairs=200, pairs_sha256="ab")))
(folder / "evaluate.flags").write_text(flags)
"""
FAIL = "import sys; sys.exit('no space left')"
LEAVE_ONCE = """
import pathlib, sys
mark = pathlib.Path(sys.argv[1], "mark")
if not mark.exists():
    mark.touch()
    sys.exit(CODE)
"""
WAIT = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path(sys.argv[1], "saved").touch()
    sys.exit(138)
signal.signal(signal.SIGTERM, save)
pathlib.Path(sys.argv[1], "begun").touch()
time.sleep(30)
"""


def make_options(folder: pathlib.Path, **changes) -> SweepOptions:
    """Two variants with two seeds each."""
    path = folder / "two.variants"
    path.write_text(VARIANTS)
    given = dict(output=str(folder / "sweep"), variants=str(path), seeds=2)
    return SweepOptions(**(dict(tfrecords="shards", train_flags="--steps=30") | given | changes))


def write_variants(folder: pathlib.Path, text: str) -> str:
    path = folder / "some.variants"
    path.write_text(text)
    return str(path)


def replace_commands(run: Run, train: str = TRAIN) -> Run:
    """The run with scripts for its commands."""
    trained, evaluated = map(fv_options.to_flagfile, (run.training, run.evaluation))
    accuracy = str(ACCURACIES.get((run.variant, run.seed), 0.8))
    scripts = {
        "train": (train, trained, str(run.training.steps)),
        "whiten": (WHITEN,),
        "evaluate": (EVALUATE, evaluated, accuracy),
    }
    commands = {}
    for stage in run.commands:
        script, *arguments = scripts[stage]
        start = (sys.executable, "-S", "-c", script, run.training.workdir)
        commands[stage] = (*start, *arguments)
    return dataclasses.replace(run, commands=commands)


@pytest.fixture
def use_scripts(monkeypatch):
    """Lets sweeps run scripts; the call changes which ones."""
    original = sweeping.plan

    def use(change=replace_commands) -> None:
        monkeypatch.setattr(sweeping, "plan", lambda chosen: list(map(change, original(chosen))))

    handler = signal.getsignal(signal.SIGTERM)
    use()
    yield use
    signal.signal(signal.SIGTERM, handler)


def read_results(options: SweepOptions) -> dict:
    return json.loads(pathlib.Path(options.output, "sweep.json").read_text())


def count_trainings(options: SweepOptions) -> list[str]:
    """How often each run was trained, as words."""
    return [path.read_text() for path in sorted(pathlib.Path(options.output).glob("*/*/trained"))]


# Planning


def test_every_variant_has_its_first_seed_before_any_has_its_second(tmp_path):
    runs = sweeping.plan(make_options(tmp_path))
    expected = [("plain", 0), ("cutout", 0), ("plain", 1), ("cutout", 1)]
    assert [(run.variant, run.training.seed) for run in runs] == expected
    assert [run.training.augmentation.cutout for run in runs] == [0.0, 0.3, 0.0, 0.3]
    assert all(run.training.steps == 30 for run in runs)
    assert len({run.training.workdir for run in runs}) == 4


def test_the_seed_in_flags_gives_each_seed_its_own_teacher_or_weights(tmp_path):
    path = write_variants(tmp_path, "plain:\nfirst: --init_weights=runs/first_{seed}\n")
    flags = "--teacher=runs/light/seed_{seed}"
    runs = sweeping.plan(make_options(tmp_path, variants=path, train_flags=flags))
    teachers = [f"runs/light/seed_{seed}" for seed in (0, 0, 1, 1)]
    assert [run.training.teaching.teacher for run in runs] == teachers
    weights = ["none", "runs/first_0", "none", "runs/first_1"]
    assert [run.training.init_weights for run in runs] == weights
    assert "--teacher=runs/light/seed_1" in runs[3].commands["train"]


def test_the_sweeps_shards_are_evaluated_unless_flags_name_pairs(tmp_path):
    first = sweeping.plan(make_options(tmp_path))[0]
    assert (first.evaluation.tfrecords, first.evaluation.split) == ("shards", "test")
    assert "--tfrecords=shards" in first.commands["evaluate"]
    flags = "--images=lfw --pairs_file=pairs.txt --threshold_tfrecords=shards"
    listed = sweeping.plan(make_options(tmp_path, evaluate_flags=flags))[0].evaluation
    assert (listed.tfrecords, listed.pairs_file) == (None, "pairs.txt")


def test_comments_and_quotes_in_a_file_of_variants_are_a_shells(tmp_path):
    text = "# a table\n\nplain:\n  cut-out.2 : --cutout=0.3 --init_weights='a b'  # a square\n"
    found = sweeping.read_variants(write_variants(tmp_path, text))
    assert found == {"plain": [], "cut-out.2": ["--cutout=0.3", "--init_weights=a b"]}
    with pytest.raises(UserError, match="holds no variant"):
        sweeping.read_variants(write_variants(tmp_path, "# nothing yet\n"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--cutout=0.3", "is no variant: write a new name, a colon"),
        ("../out: --flip", "is no variant: write a new name, a colon"),
        ("plain: --flip", "is no variant: write a new name, a colon"),
        ("cutout: cutout=0.3", "'cutout=0.3' is not a flag"),
        ("cutout: --init_weights='a", "No closing quotation"),
        ("bad: --flip --seed=3", "the sweep sets --seed"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path, line, said):
    path = write_variants(tmp_path, f"# a table\nplain:\n{line}\n")
    with pytest.raises(UserError) as error:
        sweeping.read_variants(path)
    assert str(error.value).startswith(f"{path}, line 3: ") and said in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(train_flags="--steps=many"), "variant 'plain': .*steps"),
        (dict(train_flags="--cutout=2"), "variant 'plain': .*cutout"),
        (dict(train_flags="--no_such_flag=1"), "no_such_flag"),
        (dict(train_flags="--workdir=here"), "the sweep sets --workdir"),
        (dict(evaluate_flags="--output=here"), "the sweep sets --output"),
        (dict(evaluate_flags="--split=none"), "--evaluate_flags: "),
        (dict(evaluate_flags="--pairs_file=pairs.txt"), "--images is missing"),
        (dict(output="gs://bucket/sweep"), "is remote"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_trained(tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        sweep(make_options(tmp_path, **change))
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("*.variants")), ids=lambda path: path.name
)
def test_every_file_of_variants_in_configs_resolves(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    base = "--flagfile=configs/augmentation.flags"
    chosen = SweepOptions("shards", "out", train_flags=base, variants=str(path), seeds=1)
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    names = [run.variant for run in sweeping.plan(chosen)]
    assert names == [line.partition(":")[0] for line in lines]


# Running


def test_means_and_paired_differences_are_written_and_printed(use_scripts, tmp_path, capsys):
    options = make_options(tmp_path)
    assert sweep(options) == 0
    cutout = read_results(options)["variants"]["cutout"]["accuracy"]
    assert cutout["mean"] == pytest.approx(0.725) and cutout["seeds"] == 2
    assert cutout["difference"]["mean"] == pytest.approx(0.015)
    assert cutout["difference"]["standard_error"] == pytest.approx(0.005)
    printed = capsys.readouterr().out
    assert "| cutout | 2 | 0.7250 ± 0.0212 (+0.0150 ± 0.0050) |" in printed
    assert "| plain | 2 | 0.7100 ± 0.0141 |" in printed
    assert "200 pairs of test" in printed and "0.0001" not in printed and "missing" not in printed


def test_finished_runs_are_not_repeated(use_scripts, tmp_path):
    options = make_options(tmp_path, seeds=1)
    sweep(options)
    first = read_results(options)
    assert sweep(options) == 0 and count_trainings(options) == ["once "] * 2
    assert read_results(options) == first


def test_figures_that_are_not_numbers_are_measured_again(use_scripts, tmp_path):
    options = make_options(tmp_path, seeds=1)
    sweep(options)
    figures = pathlib.Path(options.output, "plain", "seed_0", "evaluation", "metrics.json")
    sound = figures.read_text()
    figures.write_text(json.dumps(json.loads(sound) | {"accuracy": float("nan")}))
    assert sweep(options) == 0 and figures.read_text() == sound
    assert count_trainings(options) == ["once "] * 2


def test_other_evaluation_flags_evaluate_again_and_train_nothing(use_scripts, tmp_path):
    options = make_options(tmp_path, seeds=1)
    sweep(options)
    sweep(dataclasses.replace(options, evaluate_flags="--flip"))
    assert count_trainings(options) == ["once "] * 2
    folder = pathlib.Path(options.output, "plain", "seed_0", "evaluation")
    assert "--flip=true" in (folder / "evaluate.flags").read_text()


def test_whitened_models_are_made_once_and_evaluated_instead(use_scripts, tmp_path):
    options = make_options(tmp_path, seeds=1)
    sweep(options)
    for flags in ("", "--flip"):  # whitening into a folder that is there would fail
        assert sweep(dataclasses.replace(options, whiten=True, evaluate_flags=flags)) == 0
        folder = pathlib.Path(options.output, "plain", "seed_0")
        scored = (folder / "evaluation" / "evaluate.flags").read_text()
        assert f"--workdir={folder}/whitened\n" in scored
    assert count_trainings(options) == ["once "] * 2


def test_a_run_with_other_settings_is_refused_and_stays(use_scripts, tmp_path):
    options = make_options(tmp_path)
    sweep(options)
    before = read_results(options)
    said = r"seed_0 has other settings \(--steps=30 no longer\): choose another --output"
    with pytest.raises(UserError, match=said):
        sweep(dataclasses.replace(options, train_flags="--steps=40"))
    assert read_results(options) == before and count_trainings(options) == ["once "] * 4


def test_a_run_on_other_shards_is_refused(use_scripts, tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "manifest.json").write_text("{}")
    options = make_options(tmp_path, tfrecords=str(tmp_path / "shards"))
    sweep(options)
    for path in pathlib.Path(options.output).glob("*/*/run.json"):
        record = json.loads(path.read_text())
        record["starts"][-1]["manifest_sha256"] = "of other shards"
        path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="seed_0 was trained on other shards"):
        sweep(options)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sweep.json", r"did not write, .*: sweep\.json;"),
        ("baseline/seed_0/run.json", "is not the record of a run of fv.train: move it away"),
    ],
)
def test_a_file_that_no_sweep_wrote_is_refused_and_stays(use_scripts, tmp_path, name, said):
    options = make_options(tmp_path, variants=None, seeds=1)
    path = pathlib.Path(options.output, name)
    path.parent.mkdir(parents=True)
    path.write_text('{"mine": 1}')
    with pytest.raises(UserError, match=said):
        sweep(options)
    assert path.read_text() == '{"mine": 1}'


def test_a_failing_run_is_reported_and_the_others_continue(use_scripts, tmp_path, capsys):
    def fail_one(run: Run) -> Run:
        fails = (run.variant, run.seed) == ("cutout", 0)
        return replace_commands(run, train=FAIL if fails else TRAIN)

    use_scripts(fail_one)
    options = make_options(tmp_path)
    assert sweep(options) == cli.EXIT_ERROR
    said = "fv.train left with exit code 1: no space left"
    assert f"- cutout, seed 0: {said}" in capsys.readouterr().out
    states = [run["state"] for run in read_results(options)["runs"]]
    assert said in states.pop(1) and states == ["finished"] * 3
    assert read_results(options)["variants"]["cutout"]["accuracy"]["difference"]["seeds"] == 1
    use_scripts()
    assert sweep(options) == 0


@pytest.mark.parametrize("code", [cli.EXIT_SAVED, cli.EXIT_TEMPORARY])
def test_a_stage_that_can_continue_is_started_again(use_scripts, monkeypatch, tmp_path, code):
    monkeypatch.setattr(sweeping, "_PAUSE_SECONDS", 0.01)
    script = LEAVE_ONCE.replace("CODE", str(code)) + TRAIN
    use_scripts(lambda run: replace_commands(run, train=script))
    assert sweep(make_options(tmp_path, variants=None, seeds=1)) == 0


def test_a_stage_that_never_finishes_ends_temporarily_after_pauses(
    use_scripts, monkeypatch, tmp_path, capsys
):
    pauses = []
    monkeypatch.setattr(sweeping.time, "sleep", pauses.append)
    use_scripts(lambda run: replace_commands(run, train="import sys; sys.exit(75)"))
    options = make_options(tmp_path, variants=None, seeds=1)
    assert sweep(options) == cli.EXIT_TEMPORARY and pauses == [0, 1, 2, 4, 8]
    printed = capsys.readouterr().out
    assert "fv.train left with exit code 75" in printed
    assert printed.startswith(f"[1/1] {options.output}/baseline/seed_0/sweep.log\n")


def test_sigterm_reaches_the_child_and_the_next_start_continues(use_scripts, tmp_path):
    def wait_for_cutout(run: Run) -> Run:
        return replace_commands(run, train=TRAIN if run.variant == "plain" else WAIT)

    use_scripts(wait_for_cutout)
    options = make_options(tmp_path)
    folder = pathlib.Path(options.output, "cutout", "seed_0")

    def signal_when_begun() -> None:
        while not (folder / "begun").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=signal_when_begun, daemon=True).start()
    with pytest.raises(Stopped, match="the same command continues"):
        sweep(options)
    assert (folder / "saved").exists()
    states = [run["state"] for run in read_results(options)["runs"]]
    assert states == ["finished", "missing", "missing", "missing"]
    use_scripts()
    assert sweep(options) == 0 and count_trainings(options) == ["once "] * 4


def test_a_training_run_that_a_killed_sweep_left_is_waited_for(
    use_scripts, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(sweeping, "_POLL_SECONDS", 0.01)
    options = make_options(tmp_path, variants=None, seeds=1)
    (run,) = sweeping.plan(options)
    os.makedirs(run.training.workdir)

    def hold_and_finish() -> None:
        with files.lock_folder(run.training.workdir, "busy"):
            held.set()
            while "another process trains" not in "".join(said):
                said.append(capsys.readouterr().out)
            subprocess.run(run.commands["train"], check=True)

    held, said = threading.Event(), []
    other = threading.Thread(target=hold_and_finish)
    other.start()
    held.wait()
    assert sweep(options) == 0 and count_trainings(options) == ["once "]
    other.join()
    assert "".join([*said, capsys.readouterr().out]).count("another process trains") == 1


def test_a_second_sweep_in_the_same_folder_is_refused(use_scripts, tmp_path):
    options = make_options(tmp_path)
    os.makedirs(options.output)
    with (
        files.lock_folder(options.output, "busy"),
        pytest.raises(UserError, match="another sweep works in"),
    ):
        sweep(options)


@pytest.mark.slow
def test_a_real_run_is_trained_whitened_evaluated_and_recognised(
    use_scripts, shards, tmp_path, capsys
):
    use_scripts(lambda run: run)
    flags = "--backbone=tiny --image_size=32 --steps=20 --global_batch_size=8 --noaugment"
    options = SweepOptions(
        str(shards),
        str(tmp_path / "sweep"),
        train_flags=f"{flags} --validate_every=0",
        seeds=1,
        evaluate_flags="--nobaselines --bootstrap=0",
        whiten=True,
    )
    assert sweep(options) == 0, capsys.readouterr().out
    (run,) = read_results(options)["runs"]
    assert run["state"] == "finished" and 0.5 <= run["figures"]["AUC"] <= 1
    log = pathlib.Path(options.output, "baseline", "seed_0", "sweep.log")
    size = log.stat().st_size
    assert sweep(options) == 0 and log.stat().st_size == size
    with pytest.raises(UserError, match="has other settings"):
        sweep(dataclasses.replace(options, train_flags=flags))


# Figures


def frame(values: dict[int, float]) -> pd.DataFrame:
    return pd.DataFrame({"accuracy": values})


def test_mean_deviation_and_paired_differences_are_those_worked_by_hand():
    own, baseline = {0: 0.80, 1: 0.82, 2: 0.87}, {2: 0.84, 0: 0.79, 1: 0.80, 3: 0.1}
    found = sweeping.compare(frame(own), frame(baseline))["accuracy"]
    assert found["mean"] == pytest.approx(0.83) and found["seeds"] == 3
    assert found["deviation"] == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2))
    difference = found["difference"]  # of 0.01, 0.02, 0.03
    assert difference["mean"] == pytest.approx(0.02) and difference["seeds"] == 3
    assert difference["standard_error"] == pytest.approx(0.01 / math.sqrt(3))


def test_one_common_seed_has_no_error_and_none_has_no_difference():
    found = sweeping.compare(frame({0: 0.75, 1: 0.5}), frame({1: 0.25}))["accuracy"]
    expected = dict(seeds=1, mean=0.25, deviation=None, standard_error=None)
    assert found["difference"] == expected
    found = sweeping.compare(frame({0: 0.75}), pd.DataFrame())["accuracy"]
    assert found["difference"]["mean"] is None and found["deviation"] is None


def test_a_figure_that_one_seed_lacks_is_left_out():
    figures = frame({0: 0.8, 1: 0.9}).assign(tar=[0.5, math.nan])
    assert list(sweeping.compare(figures, figures)) == ["accuracy"]
