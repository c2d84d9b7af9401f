"""Runs every contestant once in each round, in a rotating order.

So other load on the machine affects all of them alike.
"""

import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple, TextIO

from benchmarks.side_by_side import workload
from benchmarks.side_by_side.workload import Workload
from fv import progress

ROOT = pathlib.Path(__file__).parent.parent.parent
GRACE_S = 90  # beyond warm-up and measurement: imports, first epochs
MEASURED = ("images_per_s", "images_per_cpu_s", "import_s", "first_batch_s", "memory_mb")


class Entrant(NamedTuple):
    """A contestant's module name and what it is given."""

    name: str
    work: Workload


def run(
    entrants: dict[str, Entrant], *, rounds: int, seconds: float, warm_up_s: float
) -> tuple[dict[str, dict], dict[str, str]]:
    """Runs all rounds.

    Args:
      entrants: by a name of their own.
      rounds: how often each runs.
      seconds: of measurement.
      warm_up_s: seconds before it, at least.

    Returns:
      A summary of each entrant that ran (see `summarise`), and the reason of each that did not.
    """
    names = list(entrants)
    results: dict[str, list[dict]] = {name: [] for name in names}
    absent: dict[str, str] = {}
    with progress.Progress(rounds * len(names), "side by side", "run") as line:
        for turn in range(rounds):
            for name in (*names[turn % len(names) :], *names[: turn % len(names)]):
                if name not in absent:
                    contestant, work = entrants[name]
                    spans = (seconds, warm_up_s)
                    result = run_module(
                        "peers",
                        contestant,
                        workload.save(work),
                        *spans,
                        timeout=sum(spans) + GRACE_S,
                    )
                    _file(result, name, results, absent)
                line.update()
    return {name: summarise(found) for name, found in results.items() if name not in absent}, absent


def run_module(module: str, *arguments, timeout: float) -> dict:
    """Runs `benchmarks.side_by_side.MODULE` in a fresh interpreter.

    Nothing that it started outlives it.

    Returns:
      The JSON object of its last line; {"failed": its last words} if it fails or takes over
      `timeout` seconds.
    """
    command = [sys.executable, "-m", f"benchmarks.side_by_side.{module}", *map(str, arguments)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complaint:
        # Files in place of pipes: whatever outlives it would hold a pipe open.
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
            stdout=said,
            stderr=complaint,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            return {"failed": f"no result after {timeout:.0f} s"}
        finally:
            end_group(process)
        result = last_line(said)
        return (
            json.loads(result)
            if result and not code
            else {"failed": last_line(complaint) or f"exit code {code}"}
        )


def summarise(results: list[dict]) -> dict:
    """Median, least and most of what several runs measured, and the dtype."""
    spread = {}
    for field in MEASURED:
        values = [result[field] for result in results]
        spread[field] = {
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
        }
    return {**spread, "dtype": results[0]["dtype"], "runs": len(results)}


def end_group(process: subprocess.Popen) -> None:
    """Ends the contestant's worker processes too: it has a process group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_line(file: TextIO) -> str:
    """The last line that is not blank, or an empty one."""
    file.seek(0)
    return next((line for line in reversed(file.read().splitlines()) if line.strip()), "")


def _file(result: dict, name: str, results: dict[str, list], absent: dict[str, str]) -> None:
    if "missing" in result:
        absent[name] = f"{result['missing']} is not installed"
    elif "failed" in result:
        absent[name] = result["failed"]
    else:
        results[name].append(result)
