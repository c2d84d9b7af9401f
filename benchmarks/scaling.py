"""Measures what it costs to divide a step: one device, two virtual devices, two local workers.

All have the same global batch and the same cores, so nothing can be gained: what is lost against
one device is the cost, the sum of the gradients included. Each runs in its own processes, in turns.
Figures are medians of the rounds, ratios are medians of each round's ratio. A rate is of the steps
alone, without start and compilation. It does not measure a network.

python benchmarks/scaling.py --tfrecords=DIR --json=/tmp/scaling.json
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)  # for `benchmarks`, run as a script

from benchmarks.side_by_side import machine, ports
from fv import cli, files
from fv.errors import UserError
from fv.options import option, required

ONE = "one device"
DIVIDED = ("two virtual devices", "two workers")
SHAPE = ("backbone", "image_size", "global_batch_size", "steps")  # flags of fv.train


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What the benchmark takes."""

    tfrecords: str = required("folder of shards that tools/make_tfrecords.py wrote.")
    backbone: str = option("inception_v3", "Network, as in fv.train.")
    image_size: int = option(75, "Side of the network's input in pixels.", lower=16)
    global_batch_size: int = option(
        32, "Pairs in a step over all devices, an even number.", lower=2
    )
    steps: int = option(45, "Steps of a run.", lower=6)
    rounds: int = option(3, "How often each runs.", lower=1)
    flags: str = option(
        "--cache=decoded --noaugment", "More flags for fv.train, separated by blanks."
    )
    json: str | None = option(None, "File to write the figures to.")


def main(options: BenchmarkOptions) -> None:
    """Runs all in turns, prints a table and writes `--json`."""
    rates: dict[str, list[float]] = {name: [] for name in (ONE, *DIVIDED)}
    for _ in range(options.rounds):
        for name, found in rates.items():
            with tempfile.TemporaryDirectory() as folder:
                found.append(run(options, name, folder))
            print(f"{name}: {found[-1]:.1f} pairs/s", flush=True)
    report = {"machine": machine.describe(), "options": dataclasses.asdict(options), "rates": rates}
    report["pairs_per_second"] = {name: statistics.median(found) for name, found in rates.items()}
    report["over_one_device"] = {name: over_one_device(rates, name) for name in DIVIDED}
    print("\n".join(lines(report)))
    if options.json:
        files.save_json(report, options.json)


def run(options: BenchmarkOptions, name: str, folder: str) -> float:
    """Pairs per second of one run.

    Raises:
      UserError: a process failed.
    """
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for command in commands(options, name, folder)
    ]
    said = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise UserError(
            f"{name}: fv.train ended with {[process.returncode for process in processes]}, "
            "see its message above"
        )
    (summary,) = (json.loads(line) for line in said[0].splitlines() if line.startswith("{"))
    return summary["pairs_per_second"]


def commands(options: BenchmarkOptions, name: str, folder: str) -> list[list[str]]:
    """One command line for each process."""
    shape = (f"--{flag}={getattr(options, flag)}" for flag in SHAPE)
    plan = [
        "--validate_every=0",
        "--checkpoint_every=0",
        "--sync_batch_norm",
        *options.flags.split(),
    ]
    common = [
        sys.executable,
        "-m",
        "fv.train",
        f"--tfrecords={options.tfrecords}",
        f"--workdir={folder}",
        *shape,
        *plan,
    ]
    if name == ONE:
        return [common]
    if name == DIVIDED[0]:
        return [[*common, "--strategy=mirrored", "--virtual_devices=2"]]
    listed = ",".join(f"localhost:{port}" for port in ports.free_ports(2))
    return [
        [*common, "--strategy=multi_worker", f"--workers={listed}", f"--worker_index={index}"]
        for index in range(2)
    ]


def over_one_device(rates: dict[str, list[float]], name: str) -> float:
    """The median of each round's rate over that round's on one device."""
    return statistics.median(
        other / one for other, one in zip(rates[name], rates[ONE], strict=True)
    )


def lines(report: dict) -> list[str]:
    """The table."""
    rows = [f"{ONE:20} {report['pairs_per_second'][ONE]:8.1f} pairs/s"]
    for name in DIVIDED:
        rate, share = report["pairs_per_second"][name], report["over_one_device"][name]
        rows.append(f"{name:20} {rate:8.1f} pairs/s, {share:.3f} × one device")
    return rows


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
