"""Measures steps of two workers against the rate and the delay of the network between them.

Each worker runs in a network namespace with an address of its own. `tc` limits the rate of what
each sends; a small program delays packets, since not every kernel has netem. Beside the time of a
step stand the bytes that the chief's interface sends in it, and the bytes that the ring of
`scaling_model.py` sends for the gradients. Needs root, iproute2 and util-linux.

python benchmarks/network.py --tfrecords=DIR --json=/tmp/network.json
"""

import contextlib
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)  # for `benchmarks`, run as a script

from benchmarks import scaling_model
from benchmarks.side_by_side import hosts, machine
from fv import cli, files, manifest
from fv.errors import UserError
from fv.model.options import ModelOptions
from fv.options import option, required

_PORT = 12345
_WARMUP_STEPS = 1  # traced and compiled; fv.train always logs their end and that of the run
_STEP = re.compile(r"step (\d+) of \d+: ")  # of a log line


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """What the benchmark takes."""

    tfrecords: str = required("folder of shards that tools/make_tfrecords.py wrote.")
    rates: str = option("none,1gbit,100mbit", "Rates of each host, as tc takes them.")
    delays_ms: str = option("0.5,5,50", "Delays of one direction, at an unlimited rate.")
    backbone: str = option("conv8", "Network, as in fv.train.")
    image_size: int = option(48, "Side of the network's input in pixels.", lower=16)
    global_batch_size: int = option(8, "Pairs in a step of both workers, an even number.", lower=2)
    steps: int = option(20, "Steps of a run, of which the first is not measured.", lower=4)
    flags: str = option("--sync_batch_norm", "More flags for fv.train, separated by blanks.")
    json: str | None = option(None, "File to write the figures to.")


@dataclasses.dataclass(frozen=True)
class Row:
    """A network, the mean step on it, and what the chief sent in a step."""

    network: str
    step_s: float
    sent_bytes: float


def main(options: NetworkOptions) -> None:
    """Runs all networks one after the other, prints a table and writes `--json`."""
    networks = [(rate, 0.0) for rate in options.rates.split(",")]
    networks += [("none", float(delay) / 1e3) for delay in options.delays_ms.split(",") if delay]
    model = ModelOptions(backbone=options.backbone, image_size=options.image_size)
    identities = len(manifest.load(options.tfrecords).splits["train"].identities)
    given = scaling_model.Assumptions(identities=identities, model=model)
    gradients = scaling_model.BYTES_PER_GRADIENT * scaling_model.count_weights(given)
    print(f"the ring of the model sends {gradients / 1e6:.2f} MB a step")  # 2 (n - 1) / n is 1
    rows = []
    for rate, delay_s in networks:
        rows.append(measure(options, rate, delay_s))
        row = rows[-1]
        print(f"{row.network:24} {1e3 * row.step_s:8.0f} ms {row.sent_bytes / 1e6:8.2f} MB a step")
    if options.json:
        report = {"machine": machine.describe(), "options": dataclasses.asdict(options)}
        report |= {"model_bytes": gradients, "rows": [dataclasses.asdict(row) for row in rows]}
        files.save_json(report, options.json)


def measure(options: NetworkOptions, rate: str, delay_s: float) -> Row:
    """Runs two workers on one network.

    Raises:
      UserError: a worker failed.
    """
    name = f"{1e3 * delay_s:g} ms" if delay_s else f"rate {rate}"
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(hosts.connect(2, delay_s))
        if rate != "none":
            made.limit(rate)
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        command = _command(options, folder, made.addresses)
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        workers = [
            stack.enter_context(
                subprocess.Popen(made.command(place, *command, f"--worker_index={place}"), **pipes)
            )
            for place in range(2)
        ]
        seen: list[tuple[int, float, int]] = []  # (steps, time, bytes sent) at each log line
        said = []
        for line in workers[0].stdout:
            said.append(line)
            if step := _STEP.search(line):
                seen.append((int(step[1]), time.perf_counter(), made.sent_bytes(0)))
        workers[1].communicate()
        if any(worker.returncode for worker in workers):
            raise UserError(f"{name}: fv.train failed: {''.join(said[-3:])}")
    measured = [each for each in seen if each[0] >= _WARMUP_STEPS]
    steps, seconds, sent = (
        end - begin for begin, end in zip(measured[0], measured[-1], strict=True)
    )
    return Row(name, seconds / steps, sent / steps)


def _command(options: NetworkOptions, folder: str, addresses: list[str]) -> list[str]:
    listed = ",".join(f"{address}:{_PORT}" for address in addresses)
    names = ("tfrecords", "backbone", "image_size", "global_batch_size", "steps")
    return [
        *(sys.executable, "-m", "fv.train", f"--workdir={folder}"),
        *(f"--{name}={getattr(options, name)}" for name in names),
        *("--validate_every=0", "--checkpoint_every=0", "--log_every=1"),
        *("--strategy=multi_worker", f"--workers={listed}"),
        *options.flags.split(),
    ]


if __name__ == "__main__":
    cli.run(main, NetworkOptions, description=__doc__)
