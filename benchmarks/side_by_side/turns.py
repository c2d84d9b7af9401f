"""Starts every contestant once; all but the one whose turn it is are stopped (SIGSTOP).

So other load on the machine affects neighbouring turns alike, no contestant pays its start twice,
and a stopped one takes no core. Each prints stamps: the times, in seconds since 1970, at which it
has done one more unit of work.
"""

import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.side_by_side import rounds
from fv import metering, progress

START_S = 240  # at most, from a process's start to its first stamps
WARM_UP_STAMPS = 3
_LOOK_S = 0.2


class Entrant(NamedTuple):
    """A contestant's command, and what reads its stamps from the path of its output so far."""

    command: Sequence[str]
    stamps: Callable[[str], list[float]]


class Turn(NamedTuple):
    """When a contestant ran, and how many cores it kept busy."""

    begin: float
    end: float
    busy_cores: float


class Contestant:
    """A process that trains, stopped between its turns."""

    def __init__(self, entrant: Entrant, path: str):
        """Starts it; its output goes to `path`.out and `path`.err."""
        self._said, self._complaint = f"{path}.out", f"{path}.err"
        self._stamps, self.absent = entrant.stamps, ""
        self.turns: list[Turn] = []
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(rounds.ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        self.started = time.time()
        with open(self._said, "w") as output, open(self._complaint, "w") as complaint:
            self._process = subprocess.Popen(
                entrant.command,
                env=environment,
                cwd=rounds.ROOT,
                stdout=output,
                stderr=complaint,
                start_new_session=True,
            )

    def warm_up(self) -> None:
        """Waits for its first stamps, and stops it; `absent` says why where there are none."""
        while len(self.stamps()) < WARM_UP_STAMPS:
            if self._process.poll() is not None:
                self.absent = self._last_words()
                return
            if time.time() - self.started > START_S:
                self.absent = f"no result after {START_S} s"
                self.end()  # or it would take a core from the others' turns
                return
            time.sleep(_LOOK_S)
        self._signal(signal.SIGSTOP)

    def run(self, seconds: float) -> None:
        """Gives it a turn."""
        begin, cpu = (
            time.time(),
            metering.cpu_seconds(),
        )  # of all below this process, of which the others stand still
        self._signal(signal.SIGCONT)
        time.sleep(seconds)
        self._signal(signal.SIGSTOP)
        end = time.time()
        self.turns.append(Turn(begin, end, (metering.cpu_seconds() - cpu) / (end - begin)))

    def end(self) -> None:
        """Kills it and all that it started."""
        rounds.end_group(self._process)

    def stamps(self) -> list[float]:
        """All stamps so far."""
        return self._stamps(self._said)

    def _last_words(self) -> str:
        with (
            open(self._said, encoding="utf-8") as said,
            open(self._complaint, encoding="utf-8") as complaint,
        ):
            line, last_words = rounds.last_line(said), rounds.last_line(complaint)
        if line.startswith("{"):
            return f"{json.loads(line)['missing']} is not installed"
        return last_words or f"exit code {self._process.returncode}"

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)


def run(
    entrants: dict[str, Entrant], *, turns: int, seconds: float, folder: str
) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Starts every entrant, gives each its turns, and ends them all.

    Args:
      entrants: by name.
      turns: how many each gets.
      seconds: of a turn.
      folder: for their output.

    Returns:
      The contestants, and why those that are not among them did not run.
    """
    running, absent = {}, {}
    try:
        with progress.Progress(len(entrants) * (1 + turns), "side by side", "turn") as line:
            for name, entrant in entrants.items():
                running[name] = Contestant(entrant, os.path.join(folder, name))
                running[name].warm_up()
                line.update()
            absent = {name: each.absent for name, each in running.items() if each.absent}
            names = [name for name in running if name not in absent]
            for turn in range(turns):
                for name in (*names[turn % len(names) :], *names[: turn % len(names)]):
                    running[name].run(seconds)
                    line.update()
    finally:
        for each in running.values():
            each.end()
    return {name: running[name] for name in names}, absent


def printed_stamps(path: str) -> list[float]:
    """The stamps of a contestant that prints one a line."""
    with open(path, encoding="utf-8") as said:
        return [float(line) for line in said if line.endswith("\n") and line[0].isdigit()]


def rates(stamps: Sequence[float], turns: Sequence[Turn]) -> list[float | None]:
    """Stamps per second of each turn, from its first stamp to its last; None if too few."""
    return [_rate([stamp for stamp in stamps if turn.begin < stamp < turn.end]) for turn in turns]


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Median, least and most of those that are there."""
    there = [value for value in values if value is not None]
    if not there:
        return dict.fromkeys(("median", "min", "max"))
    return {"median": statistics.median(there), "min": min(there), "max": max(there)}


def ratio(ours: Sequence[float | None], theirs: Sequence[float | None]) -> dict[str, float | None]:
    """The spread of one's rate over another's in the same round."""
    return spread([one and other and one / other for one, other in zip(ours, theirs, strict=True)])


def _rate(stamps: list[float]) -> float | None:
    return (len(stamps) - 1) / (stamps[-1] - stamps[0]) if len(stamps) > 1 else None
