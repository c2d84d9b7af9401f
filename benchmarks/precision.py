"""fv's training step in each precision, with XLA and without: speed and memory on this machine's GPU, or else its CPU.

InceptionV3, AdamW, one batch in memory, no augmentation. Each starts once in a process of its own, then they take turns, the
others stopped; figures are medians of the turns, ratios to plain float32 medians of each round's.

python benchmarks/precision.py --json=/tmp/precision.json
"""

import dataclasses
import itertools
import os
import sys
import tempfile

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)  # for `benchmarks`, run as a script

from benchmarks.side_by_side import machine, turns
from benchmarks.side_by_side.turns import Contestant, Entrant
from benchmarks.training_peers import work as works
from benchmarks.training_peers.work import Work
from fv import cli, files
from fv.errors import UserError
from fv.options import option
from fv.training.strategy_options import PRECISIONS

BYTES_PER_MIB = 2**20
PLAIN = "float32"
NAMES = tuple("_".join(parts).strip("_") for parts in itertools.product(PRECISIONS, ("", "xla")))


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What the benchmark takes."""

    image_size: int = option(75, "Side of the network's input in pixels.", lower=75)
    pairs: int = option(16, "Pairs in a step, two images each.", lower=1)
    only: str = option(",".join(NAMES), "Which run.")
    turns: int = option(3, "How often each runs.", lower=1)
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
    with tempfile.TemporaryDirectory() as folder:
        work = Work(folder, "", options.image_size, options.pairs, stamp_steps=options.stamp_steps)
        started = {name: _entrant(name, works.save(work)) for name in names}
        ran, absent = turns.run(
            started, turns=options.turns, seconds=options.seconds, folder=folder
        )
        found = {
            name: _figures(contestant, work, f"{folder}/{name}.out")
            for name, contestant in ran.items()
        }
    report = {
        "machine": machine.describe(),
        "options": dataclasses.asdict(options),
        "runs": found,
        "not_run": absent,
    }
    report["of_float32"] = _of_plain(found)
    print("\n".join(_lines(report)), flush=True)
    if options.json:
        files.save_json(report, options.json)


def _entrant(name: str, path: str) -> Entrant:
    precision, compiled = (
        (name.removesuffix("_xla"), "xla") if name.endswith("_xla") else (name, "plain")
    )
    command = (
        sys.executable,
        "-m",
        "benchmarks.precision_parts.contestant",
        path,
        precision,
        compiled,
    )
    return Entrant(command, turns.printed_stamps)


def _figures(contestant: Contestant, work: Work, said: str) -> dict:
    """images_per_s of each turn with median and spread, the peak memory, and the seconds to the first stamp."""
    stamps = contestant.stamps()
    each = [rate and work.stamp_images * rate for rate in turns.rates(stamps, contestant.turns)]
    with open(said, encoding="utf-8") as file:
        peaks = [
            int(line.split()[1])
            for line in file
            if line.startswith("peak ") and line.endswith("\n")
        ]
    measured = {
        "images_per_s": turns.spread(each),
        "turns": each,
        "peak_mib": max(peaks) // BYTES_PER_MIB,
    }
    return measured | {"start_s": round(stamps[0] - contestant.started, 1)}


def _of_plain(runs: dict[str, dict]) -> dict[str, dict]:
    """Each one's rate over plain float32's in the same round: median, least and most; nothing where that did not run."""
    if PLAIN not in runs:
        return {}
    return {name: turns.ratio(run["turns"], runs[PLAIN]["turns"]) for name, run in runs.items()}


def _lines(report: dict) -> list[str]:
    """A table, the fastest first."""
    runs = report["runs"]
    shown = [f"{'':<24}{'images/s':>10}{'of float32':>12}{'peak, MiB':>12}{'start, s':>10}"]
    for name in sorted(runs, key=lambda name: -(runs[name]["images_per_s"]["median"] or 0)):
        ratio = report["of_float32"].get(name, {}).get("median")
        cells = (
            runs[name]["images_per_s"]["median"],
            ratio,
            runs[name]["peak_mib"],
            runs[name]["start_s"],
        )
        forms = zip(cells, (">10.1f", ">12.2f", ">12,", ">10.1f"), (10, 12, 12, 10), strict=True)
        shown.append(
            f"{name:<24}"
            + "".join(
                " " * width if cell is None else format(cell, form) for cell, form, width in forms
            )
        )
    return [*shown, *(f"not run: {name}: {reason}" for name, reason in report["not_run"].items())]


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
