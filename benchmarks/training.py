"""fv's training beside the bare compiled step of the same model, tf_keras's fit and torch.

The same siamese InceptionV3, batch size, optimizer and loss for all; fv trains on real shards, the others on one batch in
memory.
Each contestant starts once, then they take turns, the others stopped; figures are medians of the turns, ratios medians of
each round's. A peer whose package is missing is named: benchmarks/requirements-peers.txt lists them.

python benchmarks/training.py --tfrecords=DIR --torch_python=/tmp/torch/bin/python --json=/tmp/training.json
"""

import dataclasses
import os
import sys
import tempfile

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)  # for `benchmarks`, run as a script

from benchmarks.side_by_side import machine, turns
from benchmarks.side_by_side.turns import Contestant
from benchmarks.training_peers import TITLES, entrants
from benchmarks.training_peers.work import Work
from fv import cli, files, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.errors import UserError
from fv.options import option, required


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What the benchmark takes."""

    tfrecords: str = required("folder of shards that tools/make_tfrecords.py wrote.")
    image_size: int = option(139, "Side of the network's input in pixels.", lower=75)
    pairs: int = option(16, "Pairs in a step, two images each.", lower=1)
    only: str = option(
        "bare_step,keras_fit,torch_timm", f"Who runs beside fv, some of {','.join(entrants.PEERS)}."
    )
    turns: int = option(4, "How often each runs.", lower=1)
    seconds: float = option(
        25.0, "Seconds of a turn: several times --stamp_steps steps.", lower=0.1
    )
    stamp_steps: int = option(4, "Steps between two looks at the clock; fv's --log_every.", lower=1)
    torch_python: str = option(
        sys.executable, "Python that has torch and timm; this one by default."
    )
    fv_flags: str = option("", "More flags for fv.train, separated by blanks.")
    scratch: str | None = option(
        None, "Folder for what is written, removed at the end; a temporary one by default."
    )
    json: str | None = option(None, "File to write the figures to.")


def main(options: BenchmarkOptions) -> None:
    """Runs all, prints a table and writes `--json`."""
    names = [entrants.FV, *options.only.split(",")]
    unknown = [name for name in names if name not in TITLES]
    if unknown:
        raise UserError(f"--only has '{unknown[0]}', which is none of {','.join(entrants.PEERS)}")
    if not os.path.exists(options.torch_python):
        raise UserError(
            f"--torch_python={options.torch_python} is not there: give the path of a Python"
        )
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        work = Work(
            folder,
            options.tfrecords,
            options.image_size,
            options.pairs,
            stamp_steps=options.stamp_steps,
        )
        started = entrants.entrants(names, work, options.torch_python, options.fv_flags.split())
        ran, absent = turns.run(
            started, turns=options.turns, seconds=options.seconds, folder=folder
        )
        found = {name: figures(contestant, work) for name, contestant in ran.items()}
    report = {
        "machine": machine.describe(),
        "options": dataclasses.asdict(options),
        "runs": found,
        "not_run": absent,
    }
    report["fv_over"] = fv_over(found)
    print("\n".join(lines(report)), flush=True)
    if options.json:
        files.save_json(report, options.json)


def figures(contestant: Contestant, work: Work) -> dict:
    """Images per second, of time and of CPU time, and the seconds from the process's start to its first step."""
    stamps = contestant.stamps()
    each = [rate and work.stamp_images * rate for rate in turns.rates(stamps, contestant.turns)]
    before = stamps[0] - contestant.started - (stamps[1] - stamps[0])
    per_cpu = [
        rate and rate / turn.busy_cores for rate, turn in zip(each, contestant.turns, strict=True)
    ]
    rates = {"images_per_s": turns.spread(each), "images_per_cpu_s": turns.spread(per_cpu)}
    return {**rates, "turns": each, "start_s": round(before, 2)}


def fv_over(found: dict[str, dict]) -> dict[str, dict]:
    """fv's rate over each other's in the same round: median, least and most."""
    if entrants.FV not in found:
        return {}
    ours = found[entrants.FV]["turns"]
    return {
        name: turns.ratio(ours, each["turns"])
        for name, each in found.items()
        if name != entrants.FV
    }


def lines(report: dict) -> list[str]:
    """A table, the fastest first."""
    head = "".join(
        f"{cell:>14}"
        for cell in ("images/s", "min", "max", "fv over it", "images/CPU-s", "start, s")
    )
    shown, runs = [f"{'':<56}{head}"], report["runs"]
    for name in sorted(runs, key=lambda name: -(runs[name]["images_per_s"]["median"] or 0)):
        ratio = report["fv_over"].get(name, {}).get("median")
        cells = [
            *runs[name]["images_per_s"].values(),
            ratio,
            runs[name]["images_per_cpu_s"]["median"],
            runs[name]["start_s"],
        ]
        forms = (".1f", ".1f", ".1f", ".3f", ".1f", ".1f")
        row = "".join(
            f"{'' if cell is None else format(cell, form):>14}"
            for cell, form in zip(cells, forms, strict=True)
        )
        shown.append(f"{TITLES[name]:<56}{row}")
    return [
        *shown,
        *(f"not run: {TITLES[name]}: {reason}" for name, reason in report["not_run"].items()),
    ]


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
