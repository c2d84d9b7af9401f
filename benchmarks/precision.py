"""Measures fv's training step in each precision, with and without XLA, on the GPU or else the CPU.

    python benchmarks/precision.py --json=precision.json

InceptionV3, AdamW, one batch in memory, no augmentation. Each starts once in a process of its own,
then they take turns. A rate is the median of the turns, a ratio to float32 the median over the
rounds.
"""

import dataclasses
import itertools
import json
import os
import sys
import tempfile

# For `benchmarks`, when run as a script.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.side_by_side import machine, turns
from benchmarks.side_by_side.turns import Contestant, Entrant
from benchmarks.training_peers import Work
from fv import cli, files
from fv.errors import UserError
from fv.options import option
from fv.training.options import PRECISIONS

PLAIN = "float32"
NAMES = tuple("_".join(parts).strip("_") for parts in itertools.product(PRECISIONS, ("", "xla")))


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured."""

    image_size: int = option(75, "Side of the network's input in pixels.", lower=75)
    pairs: int = option(16, "Pairs in a step, two images each.", lower=1)
    only: str = option(",".join(NAMES), "Which run.")
    turns: int = option(3, "Turns of each.", lower=1)
    seconds: float = option(
        10.0, "Seconds of a turn: several times --stamp_steps steps.", lower=0.1
    )
    stamp_steps: int = option(2, "Steps in one call of the device.", lower=1)
    json: str | None = option(None, "File to write the figures to.")


def main(options: BenchmarkOptions) -> None:
    """Runs all, prints a table and writes `--json`."""
    names = options.only.split(",")
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise UserError(f"--only has '{unknown[0]}', which is none of {','.join(NAMES)}")
    work = Work(options.image_size, options.pairs, options.stamp_steps)
    command = (sys.executable, "-m", "benchmarks.training_peers", "fv_step")
    given = json.dumps(dataclasses.asdict(work))
    entrants = {name: Entrant((*command, given, name), turns.printed_stamps) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        ran, absent = turns.run(
            entrants, turns=options.turns, seconds=options.seconds, folder=folder
        )
        runs = {name: _summarise(ran[name], work, f"{folder}/{name}.out") for name in ran}
    chosen = dataclasses.asdict(options)
    report = {"machine": machine.describe(), "options": chosen, "runs": runs, "not_run": absent}
    report["of_float32"] = {
        name: turns.ratio(run["turns"], runs[PLAIN]["turns"])
        for name, run in runs.items()
        if PLAIN in runs
    }
    print("\n".join(_format_table(report)), flush=True)
    if options.json:
        files.save_json(report, options.json)


def _summarise(contestant: Contestant, work: Work, output: str) -> dict:
    """Returns images/s of each turn with median and range, peak memory, seconds to the start."""
    stamps = contestant.stamps()
    each = [rate and work.stamp_images * rate for rate in turns.rates(stamps, contestant.turns)]
    with open(output, encoding="utf-8") as file:
        lines = [line for line in file if line.startswith("peak ") and line.endswith("\n")]
    return {
        "images_per_s": turns.spread(each),
        "turns": each,
        "peak_mib": max(int(line.split()[1]) for line in lines) >> 20,
        "start_s": round(stamps[0] - contestant.started, 1),
    }


def _format_table(report: dict) -> list[str]:
    """Returns the lines of a table, the fastest first."""
    runs = report["runs"]
    lines = [f"{'':<24}{'images/s':>10}{'of float32':>12}{'peak, MiB':>12}{'start, s':>10}"]
    for name in sorted(runs, key=lambda name: -(runs[name]["images_per_s"]["median"] or 0)):
        rate, ratio = runs[name]["images_per_s"]["median"], report["of_float32"].get(name, {})
        cells = (rate, ratio.get("median"), runs[name]["peak_mib"], runs[name]["start_s"])
        forms = zip(cells, (".1f", ".2f", ",", ".1f"), strict=True)
        shown = ("" if cell is None else format(cell, form) for cell, form in forms)
        lines.append(f"{name:<24}" + "".join(map(str.rjust, shown, (10, 12, 12, 10))))
    return [*lines, *(f"not run: {name}: {reason}" for name, reason in report["not_run"].items())]


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
