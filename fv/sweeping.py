"""Sweeps: trains and evaluates each variant of a recipe with several seeds, and compares them.

Each run trains in OUTPUT/VARIANT/seed_N. The files there say how far the run is, so a killed sweep
continues. A file of variants holds one variant on a line; the first is the baseline:

    # name: flags of fv.train
    plain:
    cutout: --cutout=0.3    # quotes and comments follow the rules of a shell
"""

import dataclasses
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fv import cli, files, manifest, ownership, workdir
from fv import options as fv_options
from fv.errors import Stopped, UserError
from fv.evaluation.options import EvaluateOptions
from fv.options import option, required
from fv.training.options import TrainOptions

JSON, LOG = "sweep.json", "sweep.log"
EVALUATION, WHITENED = "evaluation", "whitened"  # folders in a run's workdir
_NAME = re.compile(r"\w[\w.+-]*", re.ASCII)
_OWN_FLAGS = ("--seed", "--workdir", "--output")
_MOVABLE = ("--workdir", "--tfrecords")  # the manifest identifies the shards, wherever they are
_RESUMABLE_CODES = (cli.EXIT_SAVED, cli.EXIT_TEMPORARY)  # of a stage that can continue
_STARTS, _PAUSE_SECONDS = 5, 1.0  # of such a stage; before its second start, doubles with each
_POLL_SECONDS, _POLLS_PER_LINE = 2.0, 300  # while another process trains in a workdir
_NOTE = (
    "Mean ± standard deviation over seeds; in parentheses the mean difference to '{}' on the same "
    "seeds ± its standard error. A 95 % interval takes 12.7 of these errors on either side for two "
    "seeds, 4.3 for three, 2.8 for five."
)


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """The runs of a sweep and where they go."""

    tfrecords: str = required("folder of shards that every run trains on.")
    output: str = required("folder of the runs and sweep.json; a stopped sweep continues there.")
    train_flags: str = option(
        "",
        "Flags of fv.train for every run, such as '--flagfile=configs/lfw.flags --steps=500'. "
        "Here and in variants, {seed} is the run's seed: "
        "--teacher=runs/light/baseline/seed_{seed}.",
    )
    variants: str | None = option(
        None, "Text file with one variant per line, 'name: --flag=… --flag=…', the baseline first."
    )
    seeds: int = option(3, "Seeds of each variant, from 0 on.", lower=1)
    evaluate_flags: str = option("", "Flags of fv.evaluate; by default it scores the test split.")
    whiten: bool = option(False, "Whiten every model with fv.whiten and evaluate the result.")


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One variant with one seed: its resolved flags, and its command lines by stage, in order."""

    variant: str
    seed: int
    training: TrainOptions
    evaluation: EvaluateOptions
    commands: Mapping[str, tuple[str, ...]]


def sweep(options: SweepOptions) -> int:
    """Finishes all runs, updates sweep.json after each, prints a table; returns the exit code.

    Raises:
      UserError: flags are wrong, a run has other settings, or another sweep works in the folder.
      Stopped: SIGTERM arrived; the child has saved.
    """
    if files.is_remote(options.output):
        raise UserError(f"--output={options.output} is remote: give a folder of this machine")
    runs, failures, codes = plan(options), dict[Run, str](), set[int]()
    files.make_folder(options.output)
    busy = f"another sweep works in {options.output}: wait for it, or give another --output"
    with files.lock_folder(options.output, busy):
        ownership.claim(options.output, [JSON])
        for run in runs:
            _require_same_settings(run)
        signal.signal(signal.SIGTERM, _raise_stopped)
        for number, run in enumerate(runs, 1):
            print(f"[{number}/{len(runs)}] {os.path.join(run.training.workdir, LOG)}", flush=True)
            if failed := _run_stages(run):
                failures[run], code = failed
                codes.add(code)
                print(f"[{number}/{len(runs)}] FAILED: {failures[run]}", flush=True)
            content = _collect(runs, failures)
            ownership.save_json(content, os.path.join(options.output, JSON))
    print(f"\n{_render(content)}\nwrote {os.path.join(options.output, JSON)}")
    return min(codes, default=0)  # EXIT_ERROR of one run comes before EXIT_TEMPORARY


def plan(options: SweepOptions) -> list[Run]:
    """Resolves all runs, the first seed of every variant before any second seed.

    Raises:
      UserError: flags are wrong, or the sweep sets them itself.
    """
    shared = [*_split(options.train_flags, "--train_flags"), f"--tfrecords={options.tfrecords}"]
    evaluate = _split(options.evaluate_flags, "--evaluate_flags")
    variants = read_variants(options.variants) if options.variants else {"baseline": []}
    return [
        _plan_run(options, name, seed, [*shared, *own], evaluate)
        for seed in range(options.seeds)
        for name, own in variants.items()
    ]


def read_variants(path: str) -> dict[str, list[str]]:
    """Reads the flags of each variant in a file, by name.

    Raises:
      UserError: the file has no variants, or a line is not a variant; the message names the line.
    """
    found: dict[str, list[str]] = {}
    for number, line in enumerate(files.read_bytes(path).decode(errors="replace").split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, colon, flags = line.partition(":")
            name, origin = name.strip(), f"{path}, line {number}"
            if not colon or not _NAME.fullmatch(name) or name in found:
                advice = "write a new name, a colon and flags, as in 'cutout: --cutout=0.3'"
                raise UserError(f"{origin}: '{line.strip()}' is no variant: {advice}")
            found[name] = _split(flags, origin)
    if not found:
        raise UserError(f"{path} holds no variant: write lines like 'cutout: --cutout=0.3'")
    return found


def _split(flags: str, origin: str) -> list[str]:
    try:
        parts = shlex.split(flags, comments=True)
    except ValueError as error:
        raise UserError(f"{origin}: {error}: {flags}") from error
    for flag in parts:
        if not flag.startswith("--"):
            raise UserError(f"{origin}: '{flag}' is not a flag: write --name=value")
        if flag.partition("=")[0] in _OWN_FLAGS:
            raise UserError(f"{origin}: the sweep sets {flag.partition('=')[0]}: leave it out")
    return parts


def _plan_run(
    options: SweepOptions, variant: str, seed: int, train: list[str], evaluate: list[str]
) -> Run:
    folder = os.path.join(options.output, variant, f"seed_{seed}")
    scored = os.path.join(folder, WHITENED) if options.whiten else folder
    train = [flag.replace("{seed}", str(seed)) for flag in train]
    train += [f"--workdir={folder}", f"--seed={seed}"]
    evaluate = [*evaluate, f"--workdir={scored}", f"--output={os.path.join(folder, EVALUATION)}"]
    training = _resolve(TrainOptions, train, f"variant '{variant}'")
    evaluation = _resolve(EvaluateOptions, evaluate, "--evaluate_flags")
    if not (evaluation.tfrecords or evaluation.pairs_list):
        evaluate.append(f"--tfrecords={options.tfrecords}")
        evaluation = dataclasses.replace(evaluation, tfrecords=options.tfrecords)
    evaluation.check()
    whiten = [f"--workdir={folder}", f"--tfrecords={training.tfrecords}", f"--output={scored}"]
    whitening = {"whiten": whiten} if options.whiten else {}
    stages = {"train": train, **whitening, "evaluate": evaluate}
    commands = {name: (sys.executable, "-m", f"fv.{name}", *each) for name, each in stages.items()}
    return Run(variant, seed, training, evaluation, commands)


def _resolve(cls: type, flags: Sequence[str], origin: str) -> Any:
    try:
        return fv_options.from_flags(cls, cli.parse(cls, ["", *flags])[0])
    except UserError as error:
        raise UserError(f"{origin}: {error}") from error


def _require_same_settings(run: Run) -> None:
    """Refuses a run with other flags or shards, whose figures would be mixed with this sweep's."""
    folder, path = run.training.workdir, os.path.join(run.training.workdir, workdir.FLAGS)
    if not files.exists(path):
        return
    begun = _resolve(TrainOptions, [f"--flagfile={path}"], path)
    was, now = (fv_options.to_flagfile(each).splitlines() for each in (begun, run.training))
    for line in sorted({*was} ^ {*now}):
        if line.partition("=")[0] not in _MOVABLE:
            when = "now" if line in now else "no longer"
            raise UserError(f"{folder} has other settings ({line} {when}): choose another --output")
    trained_on = workdir.last_start(folder).get("manifest_sha256")
    here = os.path.join(run.training.tfrecords, manifest.FILE_NAME)
    if trained_on and files.exists(here) and files.sha256(here) != trained_on:
        raise UserError(f"{folder} was trained on other shards: choose another --output")


def _is_done(run: Run, stage: str) -> bool:
    if stage == "train":
        ended = workdir.last_start(run.training.workdir).get("ended") or {}
        return ended.get("reason") == "finished" and ended.get("step", 0) >= run.training.steps
    if stage == "whiten":
        return files.exists(os.path.join(run.training.workdir, WHITENED, workdir.MODEL))
    return _read_metrics(run) is not None


def _read_metrics(run: Run) -> dict | None:
    """Reads the metrics.json of a run; None unless it was trained and evaluated with its flags."""
    # fv.evaluate writes its flags after its figures, so the flags vouch for the figures.
    names = (workdir.EVALUATE_FLAGS, workdir.METRICS)
    flags, metrics = (os.path.join(run.training.workdir, EVALUATION, name) for name in names)
    if not (files.exists(flags) and files.exists(metrics) and _is_done(run, "train")):
        return None
    try:
        evaluated = _resolve(EvaluateOptions, [f"--flagfile={flags}"], flags)
        return files.load_json(metrics) if evaluated == run.evaluation else None
    except UserError:  # damaged, or of another version of fv: it is evaluated again
        return None


def _run_stages(run: Run) -> tuple[str, int] | None:
    """Runs the stages that are not done; returns why one failed and the sweep's exit code."""
    log = os.path.join(run.training.workdir, LOG)
    os.makedirs(run.training.workdir, exist_ok=True)
    _wait_for_lock(run.training.workdir)
    for stage, command in run.commands.items():
        code, starts = cli.EXIT_SAVED, 0
        while code in _RESUMABLE_CODES and starts < _STARTS and not _is_done(run, stage):
            time.sleep(_PAUSE_SECONDS * (2**starts // 2))
            code, starts = _run_command(command, log), starts + 1
        if not _is_done(run, stage):
            said = files.read_bytes(log).decode(errors="replace").strip().rpartition("\n")[2]
            failure = f"fv.{stage} left with exit code {code}: {said} ({log})"
            return failure, cli.EXIT_TEMPORARY if code in _RESUMABLE_CODES else cli.EXIT_ERROR
    return None


def _wait_for_lock(folder: str) -> None:
    """Waits for a training process that a killed sweep left behind, whose steps count."""
    for poll in itertools.count():
        try:
            with files.lock_folder(folder, f"another process trains in {folder}: waits for it"):
                return
        except UserError as error:
            if poll % _POLLS_PER_LINE == 0:
                print(error, flush=True)
            time.sleep(_POLL_SECONDS)


def _run_command(command: Sequence[str], log: str) -> int:
    """Runs a command, appends its output to `log`, and returns its exit code as shells do."""
    with open(log, "ab") as file:
        # In a session of its own, Ctrl-C does not reach it: a second signal would end it unsaved.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
        try:
            code = process.wait()
        except BaseException:
            process.terminate()  # training saves
            process.wait()
            raise
    return code if code >= 0 else 128 - code


def _raise_stopped(*_: object) -> None:
    raise Stopped("stopped; the same command continues")


def _collect(runs: Sequence[Run], failures: Mapping[Run, str]) -> dict:
    """The content of sweep.json: the scored pairs, the figures of each variant, the runs."""
    metrics = {run: found for run in runs if (found := _read_metrics(run))}
    rows = {(run.variant, run.seed): _figures(found) for run, found in metrics.items()}
    table = pd.DataFrame(rows).T.astype(float)
    by_variant = {run.variant: table.loc[run.variant] for run in metrics}
    baseline = by_variant.get(runs[0].variant, pd.DataFrame())
    pairs = {(each["split"], each["pairs"], each.get("pairs_sha256")) for each in metrics.values()}
    return {
        "command": shlex.join(sys.argv),
        "pairs": sorted(pairs),
        "baseline": runs[0].variant,
        "variants": {name: compare(each, baseline) for name, each in by_variant.items()},
        "runs": [
            {
                "variant": run.variant,
                "seed": run.seed,
                "state": "finished" if run in metrics else failures.get(run, "missing"),
                "figures": rows.get((run.variant, run.seed)),
                "commands": [shlex.join(command) for command in run.commands.values()],
            }
            for run in runs
        ],
    }


def _figures(metrics: dict) -> dict[str, float | None]:
    rates = {f"TAR@FAR {far}": point["tar"] for far, point in metrics["tar_at_far"].items()}
    return {"accuracy": metrics["accuracy"], "AUC": metrics["auc"], "EER": metrics["eer"]} | rates


def compare(figures: pd.DataFrame, baseline: pd.DataFrame) -> dict[str, dict]:
    """Summarises the figures of a variant and their paired differences to the baseline.

    Args:
      figures: float, a row for each seed, a column for each figure. Columns with a NaN are dropped.
      baseline: likewise; may be empty.
    """
    differences = figures.sub(baseline)  # aligned by seed; NaN where the baseline has none
    return {
        name: _summarise(column) | {"difference": _summarise(differences[name])}
        for name, column in figures.dropna(axis="columns").items()
    }


def _summarise(values: pd.Series) -> dict:
    """Figures of values without NaN; None where there are too few values for one."""
    found = {"mean": values.mean(), "deviation": values.std(), "standard_error": values.sem()}
    known = {name: None if pd.isna(value) else value for name, value in found.items()}
    return {"seeds": int(values.count()), **known}


def _render(content: dict) -> str:
    """A Markdown table of the variants, and a line for each run that it lacks."""
    parts = [f"{count:,} pairs of {name}." for name, count, _ in content["pairs"]]
    if len(parts) > 1:
        parts.append("**The runs were scored on different pairs.**")
    columns = list(dict.fromkeys(name for found in content["variants"].values() for name in found))
    lines = [["variant", "seeds", *columns], ["---"] * (len(columns) + 2)]
    for variant, found in content["variants"].items():
        cells = [_render_cell(found.get(name), variant != content["baseline"]) for name in columns]
        lines.append([variant, str(found["accuracy"]["seeds"]), *cells])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    lacking = [run for run in content["runs"] if run["state"] != "finished"]
    parts += [table, _NOTE.format(content["baseline"])]
    parts += [f"- {run['variant']}, seed {run['seed']}: {run['state']}" for run in lacking]
    return "\n\n".join(parts) + "\n"


def _render_cell(figure: dict | None, compared: bool) -> str:
    if figure is None:
        return "–"
    difference, deviation = figure["difference"], figure["deviation"]
    text = f"{figure['mean']:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
    if not (compared and difference["seeds"]):
        return text
    error = difference["standard_error"]
    return f"{text} ({difference['mean']:+.4f}{'' if error is None else f' ± {error:.4f}'})"
