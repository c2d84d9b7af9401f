"""A sweep from its options: plan, what is there already, the runs that are left, the table."""

import itertools
import os
import shlex
import sys
import time
from collections.abc import Sequence

from fv import cli, files, folder_lock, ownership, workdir
from fv.errors import Stopped, UserError
from fv.sweeping import attempts, plan, results, standing, table, variants
from fv.sweeping.child import Children
from fv.sweeping.options import SweepOptions
from fv.sweeping.plan import Run
from fv.sweeping.standing import Standing

JSON, MARKDOWN, LOG = "sweep.json", "sweep.md", "sweep.log"
EARLIER = "earlier"  # folder of the runs that were begun otherwise
_KEYS = {"machine", "pairs", "variants", "runs"}  # of sweep.json
_STARTS = 5  # of a training run that leaves unasked, with 138 or 75, one after the other
_LOOK_SECONDS = 2.0  # between two looks at a workdir that another process trains in


def sweep(options: SweepOptions) -> int:
    """Does the runs that are not finished, writes sweep.json and sweep.md after each, and prints the table.

    Returns:
      The exit code: `cli.EXIT_ERROR` where a run failed, else 0.

    Raises:
      UserError: flags or variants are wrong, runs have changed, or another sweep works in the folder.
      Stopped: SIGTERM or SIGINT asked for it; what ran has saved.
    """
    if files.is_remote(options.output):
        raise UserError(
            f"--output={options.output} is remote: a sweep's runs stay on this machine's disks"
        )
    runs = plan.plan(options)
    names = variants.select(list(dict.fromkeys(run.variant for run in runs)), options.only)
    chosen = [] if options.report_only else [run for run in runs if run.variant in names]
    files.make_folder(options.output)
    with folder_lock.held(
        options.output,
        f"another sweep works in {options.output}: wait for it, or give another --output",
    ):
        ownership.claim(
            options.output, [JSON, MARKDOWN], lambda name: _is_of_earlier_version(options.output)
        )
        _set_changed_aside(chosen, options)
        failures = _work(chosen, runs, options.output)
        content = _publish(runs, failures, options.output)
    print(f"\n{table.render(content)}\n{os.path.join(options.output, MARKDOWN)}, {JSON}")
    return cli.EXIT_ERROR if failures else 0


def _is_of_earlier_version(output: str) -> bool:
    """Whether a sweep of an earlier fv, which listed no files, left sweep.json: then sweep.md is its too."""
    try:
        return (
            JSON not in ownership.listed_names(output)
            and files.load_json(os.path.join(output, JSON)).keys() >= _KEYS
        )
    except (UserError, AttributeError, FileNotFoundError, NotADirectoryError):
        return False


def _set_changed_aside(runs: Sequence[Run], options: SweepOptions) -> None:
    """Moves the runs that were begun otherwise away, where that was asked for; they may hold files that are not fv's."""
    changed = {run: found.changed for run in runs if (found := standing.look(run)).changed}
    if changed and not options.rerun_changed:
        run, reason = next(iter(changed.items()))
        more = f" ({len(changed)} runs have changed)" if len(changed) > 1 else ""
        what = f"{run.workdir} was begun otherwise: {reason}{more}"
        raise UserError(
            f"{what}; give another --output, or --rerun_changed to move it away and repeat it"
        )
    for run in changed:
        _set_aside(run, options.output)


def _set_aside(run: Run, output: str) -> None:
    with folder_lock.held(
        run.workdir, f"another process trains in {run.workdir}: wait until it ends"
    ):
        pass
    name = os.path.relpath(run.workdir, output)
    places = (os.path.join(output, EARLIER, f"{name}-{number}") for number in itertools.count(1))
    place = next(place for place in places if not os.path.lexists(place))
    os.makedirs(os.path.dirname(place), exist_ok=True)
    os.rename(run.workdir, place)
    print(f"{run}: what was there is in {place} now", flush=True)


def _work(chosen: Sequence[Run], runs: Sequence[Run], output: str) -> dict[Run, str]:
    """Does what is left of the chosen runs; returns why some failed."""
    left = [run for run in chosen if not standing.look(run).finished]
    if len(left) < len(chosen):
        print(f"{len(chosen) - len(left)} of {len(chosen)} runs are finished already", flush=True)
    failures, began = {}, time.perf_counter()
    with Children() as children:
        for number, run in enumerate(left, 1):
            print(f"[{number}/{len(left)}] {run}: {os.path.join(run.workdir, LOG)}", flush=True)
            failure = do(run, children)
            if failure:
                failures[run] = failure
            _publish(runs, failures, output)
            print(
                f"[{number}/{len(left)}] {run}: {_outcome(run, failure)}{_time_left(began, number, len(left))}",
                flush=True,
            )
    return failures


def do(run: Run, children: Children) -> str | None:
    """Trains, whitens where that is asked for, and evaluates, as far as each is not done.

    Returns:
      Why it failed; None where it did not.

    Raises:
      Stopped: a signal came.
    """
    os.makedirs(run.workdir, exist_ok=True)
    failure = _train(run, children) or _whiten(run, children)
    if failure:
        return failure
    failure = _attempt(run, attempts.EVALUATION, run.evaluate_command, children)
    if failure is None and not standing.look(run).finished:
        return "fv.evaluate ended well, and its figures are not there"
    return failure and failure[1]


def _train(run: Run, children: Children) -> str | None:
    for _ in range(_STARTS):
        _wait_for_another(run, children)
        if standing.look(run).trained:
            return None
        failure = _attempt(run, attempts.TRAINING, run.train_command, children)
        if failure is None or failure[0] not in (cli.EXIT_SAVED, cli.EXIT_TEMPORARY):
            break
    return failure and failure[1]


def _whiten(run: Run, children: Children) -> str | None:
    if run.whiten_command is None or files.exists(
        os.path.join(run.evaluation.workdir, workdir.MODEL)
    ):
        return None
    failure = _attempt(run, attempts.WHITENING, run.whiten_command, children)
    return failure and failure[1]


def _wait_for_another(run: Run, children: Children) -> None:
    """A sweep that was killed leaves a training run that goes on: its steps are not lost, so it is waited for."""
    said = False
    while True:
        _check_not_stopped(run, children)
        try:
            with folder_lock.held(run.workdir, "busy"):
                return
        except UserError:
            if not said:
                print(
                    f"{run}: another process trains in {run.workdir}: waits until it ends",
                    flush=True,
                )
            said = True
            time.sleep(_LOOK_SECONDS)


def _attempt(
    run: Run, what: str, command: Sequence[str], children: Children
) -> tuple[int, str] | None:
    """Runs a command once; its exit code and why it failed, None where it did not."""
    _check_not_stopped(run, children)
    attempts.begin(run.workdir, what)
    ended = children.run(command, os.path.join(run.workdir, LOG))
    attempts.end(run.workdir, ended.code, ended.wall_seconds, ended.cpu_seconds)
    if ended.code == 0:
        return None
    _check_not_stopped(run, children)
    return ended.code, f"{what} left with exit code {ended.code}: {ended.said}"


def _check_not_stopped(run: Run, children: Children) -> None:
    if children.stopped:
        raise Stopped(f"stopped at {run}; the same command goes on there")


def _outcome(run: Run, failure: str | None) -> str:
    if failure:
        return f"FAILED, {failure}"
    found = results.figures(standing.look(run).metrics)
    spent = sum(attempts.cost(run.workdir, what).cpu_seconds for what in attempts.STAGES)
    return f"accuracy {found['accuracy']:.4f}, AUC {found['AUC']:.4f}, {spent / 60:.1f} CPU minutes"


def _time_left(began: float, done: int, total: int) -> str:
    if done == total:
        return ""
    seconds = (time.perf_counter() - began) / done * (total - done)
    return f"; {total - done} left, about {seconds / 60:.0f} minutes"


def _publish(runs: Sequence[Run], failures: dict[Run, str], output: str) -> dict:
    standings: dict[Run, Standing] = {run: standing.look(run) for run in runs}
    content = results.collect(runs, standings, failures)
    ownership.save_json({"command": shlex.join(sys.argv), **content}, os.path.join(output, JSON))
    with ownership.atomic_open(os.path.join(output, MARKDOWN)) as file:
        file.write(table.render(content))
    return content
