"""Compares fv's training with the bare compiled step, tf_keras `fit` and torch.

    python benchmarks/training.py --tfrecords=DIR --torch_python=/tmp/torch/bin/python \\
        --json=training.json

All train the same siamese InceptionV3 with the same batch size, optimizer and loss: fv on shards,
the others on one batch in memory. Each starts once, then they take turns. A rate is the median of
the turns, a ratio the median over the rounds. benchmarks/requirements-peers.txt lists the peers'
packages; a peer without its package is reported as not run.
"""

import dataclasses
import glob
import json
import os
import sys
import tempfile

# For `benchmarks`, when run as a script.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.side_by_side import machine, turns
from benchmarks.side_by_side.turns import Contestant, Entrant
from benchmarks.training_peers import EMBEDDING_SIZE, LEARNING_RATE, Work
from fv import cli, files, workdir
from fv.errors import UserError
from fv.options import option, required

FV, TORCH = "fv", "torch_timm"
TITLES = {
    FV: "fv: python -m fv.train on real shards",
    "bare_step": "bare compiled step, tf.function, one batch in memory",
    "keras_fit": "tf_keras fit, one batch in memory",
    TORCH: "torch + timm, eager, one batch in memory",
}
PEERS = tuple(name for name in TITLES if name != FV)


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured, and on what."""

    tfrecords: str = required("folder of shards that tools/make_tfrecords.py wrote.")
    image_size: int = option(139, "Side of the network's input in pixels.", lower=75)
    pairs: int = option(16, "Pairs in a step, two images each.", lower=1)
    only: str = option(",".join(PEERS), f"Peers that run beside fv, some of {','.join(PEERS)}.")
    turns: int = option(4, "Turns of each.", lower=1)
    seconds: float = option(
        25.0, "Seconds of a turn: several times --stamp_steps steps.", lower=0.1
    )
    stamp_steps: int = option(4, "Steps between two looks at the clock; fv's --log_every.", lower=1)
    torch_python: str = option(
        sys.executable, "Python that has torch and timm; this one by default."
    )
    fv_flags: str = option("", "More flags for fv.train, separated by blanks.")
    scratch: str | None = option(
        None, "Folder for temporary files; the system's temporary folder if not given."
    )
    json: str | None = option(None, "File to write the figures to.")


def main(options: BenchmarkOptions) -> None:
    """Runs all, prints a table and writes `--json`."""
    names = [FV, *options.only.split(",")]
    unknown = [name for name in names if name not in TITLES]
    if unknown:
        raise UserError(f"--only has '{unknown[0]}', which is none of {','.join(PEERS)}")
    if not os.path.exists(options.torch_python):
        raise UserError(f"--torch_python={options.torch_python} does not exist: give a Python")
    work = Work(options.image_size, options.pairs, options.stamp_steps)
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        entrants = {name: _entrant(name, options, work, folder) for name in names}
        ran, absent = turns.run(
            entrants, turns=options.turns, seconds=options.seconds, folder=folder
        )
        runs = {name: summarise(contestant, work) for name, contestant in ran.items()}
    given = dataclasses.asdict(options)
    report = {"machine": machine.describe(), "options": given, "runs": runs, "not_run": absent}
    report["fv_over"] = compare(runs)
    print("\n".join(format_table(report)), flush=True)
    if options.json:
        files.save_json(report, options.json)


def summarise(contestant: Contestant, work: Work) -> dict:
    """Returns images/s, images per CPU second, and the seconds from start to the first step."""
    stamps = contestant.stamps()
    each = [rate and work.stamp_images * rate for rate in turns.rates(stamps, contestant.turns)]
    paired = zip(each, contestant.turns, strict=True)
    per_cpu = [rate and rate / turn.busy_cores for rate, turn in paired]
    return {
        "images_per_s": turns.spread(each),
        "images_per_cpu_s": turns.spread(per_cpu),
        "turns": each,
        "start_s": round(stamps[0] - contestant.started - (stamps[1] - stamps[0]), 2),
    }


def compare(runs: dict[str, dict]) -> dict[str, dict]:
    """Returns fv's rate over each other's in the same round: median, min, max."""
    others = [name for name in runs if name != FV and FV in runs]
    return {name: turns.ratio(runs[FV]["turns"], runs[name]["turns"]) for name in others}


def format_table(report: dict) -> list[str]:
    """Returns the lines of a table, the fastest first."""
    heads = ("images/s", "min", "max", "fv over it", "images/CPU-s", "start, s")
    lines, runs = [f"{'':<56}" + "".join(f"{head:>14}" for head in heads)], report["runs"]
    for name in sorted(runs, key=lambda name: -(runs[name]["images_per_s"]["median"] or 0)):
        run, ratio = runs[name], report["fv_over"].get(name, {}).get("median")
        cells = [*run["images_per_s"].values(), ratio, run["images_per_cpu_s"]["median"]]
        forms = zip((*cells, run["start_s"]), (1, 1, 1, 3, 1, 1), strict=True)
        shown = ("" if cell is None else f"{cell:.{digits}f}" for cell, digits in forms)
        lines.append(f"{TITLES[name]:<56}" + "".join(f"{cell:>14}" for cell in shown))
    absent = report["not_run"].items()
    return [*lines, *(f"not run: {TITLES[name]}: {reason}" for name, reason in absent)]


def _entrant(name: str, options: BenchmarkOptions, work: Work, folder: str) -> Entrant:
    if name == FV:
        run = os.path.join(folder, name)
        return Entrant(_fv_command(options, run), lambda _: read_logged_stamps(run))
    python = options.torch_python if name == TORCH else sys.executable
    given = json.dumps(dataclasses.asdict(work))
    return Entrant((python, "-m", "benchmarks.training_peers", name, given), turns.printed_stamps)


def _fv_command(options: BenchmarkOptions, run: str) -> list[str]:
    command = [sys.executable, "-m", "fv.train"]
    flags = {
        "tfrecords": options.tfrecords,
        "workdir": run,
        "image_size": options.image_size,
        "embedding_size": EMBEDDING_SIZE,
        "head": "sigmoid",
        "optimizer": "sgd",
        "learning_rate": LEARNING_RATE,
        "decay": "constant",
        "weight_decay": 0,
        "warmup_steps": 0,
        "steps": 10**9,
        "global_batch_size": options.pairs,
        "log_every": options.stamp_steps,
        "validate_every": 0,
        "checkpoint_every": 0,
    }
    given = [f"--{name}={value}" for name, value in flags.items()]
    return [*command, *given, "--noaugment", *options.fv_flags.split()]


def read_logged_stamps(run: str) -> list[float]:
    """Returns the times at which a run logged its loss, in seconds since 1970."""
    return [stamp for stamp, _ in read_logged_losses(run)]


def read_logged_losses(run: str) -> list[tuple[float, float]]:
    """Returns when a run logged a loss, in seconds since 1970, and the loss, from TensorBoard."""
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    paths = sorted(glob.glob(os.path.join(run, workdir.TENSORBOARD, "*tfevents*")))
    events = (event for path in paths for event in EventFileLoader(path).Load())
    return [
        (event.wall_time, float(tf.make_ndarray(value.tensor)))
        for event in events
        for value in event.summary.value
        if value.tag == "loss"
    ]


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
