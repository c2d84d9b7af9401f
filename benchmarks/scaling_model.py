"""Computes what limits training as accelerators are added: compute, input or links.

A step takes the longer of input and (forward and backward pass, then the all-reduce of the
gradients): tf.data works beside the step, and the all-reduce is assumed to begin with the last
gradient. The all-reduce is a ring: every accelerator, and every host's link, carries 2 (n − 1) / n
of the gradients' bytes (Patarasuk and Yuan, Bandwidth Optimal All-reduce, 2009). Weights are
counted from fv's own model. Every figure is a flag: put in your own.

python benchmarks/scaling_model.py --images_per_s=2500 --images_per_cpu_s=3337 --link_gbit=100
"""

import dataclasses
import os
import sys

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)  # for `benchmarks`, run as a script

from fv import cli, files, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.model import siamese
from fv.model.options import ModelOptions
from fv.options import group, option

BYTES_PER_GRADIENT = 4  # float32 in every precision
BITS = 8
ENOUGH = 0.9  # efficiency from which on nothing is called a limit but the accelerators
LINES = {
    "compute": "--precision, --xla: more images/s per accelerator",
    "input": "--store_size at conversion, --cache=decoded, --data_service",
    "all-reduce": "--accumulate_steps, a larger --global_batch_size",
}


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """What the model is told; what was not measured is an assumption."""

    accelerators: str = option("1,8,64,512", "How many, each a row.")
    per_host: int = option(8, "Accelerators of a host.", lower=1)
    cores: int = option(64, "Cores of a host.", lower=1)
    images_per_s: float = option(
        2500.0, "Of one accelerator without input, as tools/benchmark.py measures.", lower=1.0
    )
    images: int = option(128, "Images per accelerator and step.", lower=2)
    accumulate_steps: int = option(1, "Parts of a step; each has so many images.", lower=1)
    images_per_cpu_s: float = option(
        3337.0,
        "Decoded per second of one core, as benchmarks/results/scaling.md assumes.",
        lower=1.0,
    )
    host_us: float = option(
        6.0, "Of an image in the process that trains, however many others decode.", lower=0.0
    )
    image_bytes: float = option(9000.0, "Of a stored image.", lower=1.0)
    device_gbyte: float = option(
        200.0, "GB/s of a ring between the accelerators of a host.", lower=0.001
    )
    link_gbit: float = option(100.0, "Gbit/s of a host's link.", lower=0.001)
    latency_us: float = option(20.0, "Of one hop of a ring.", lower=0.0)
    identities: int = option(10_000, "People in training: rows of the softmax head.", lower=1)
    model: ModelOptions = group(ModelOptions)
    json: str | None = option(None, "File to write the figures to.")


@dataclasses.dataclass(frozen=True)
class Row:
    """One number of accelerators: seconds of a step's parts, the limit, and what comes out."""

    accelerators: int
    hosts: int
    compute_s: float
    input_s: float
    all_reduce_s: float
    images: int

    @property
    def step_s(self) -> float:
        """How long a step lasts."""
        return max(self.compute_s + self.all_reduce_s, self.input_s)

    @property
    def images_per_s(self) -> float:
        """Of all accelerators together."""
        return self.images / self.step_s

    @property
    def efficiency(self) -> float:
        """Of what as many accelerators would do without input and links."""
        return self.compute_s / self.step_s

    @property
    def limit(self) -> str:
        """What limits the step; "compute" where the accelerators are nearly always busy."""
        if self.efficiency >= ENOUGH:
            return "compute"
        return "input" if self.input_s >= self.compute_s + self.all_reduce_s else "all-reduce"


def main(given: Assumptions) -> None:
    """Prints the table, and writes `--json`."""
    weights = count_weights(given)
    rows = [predict(int(count), weights, given) for count in given.accelerators.split(",")]
    print("\n".join(lines(rows, weights, given)))
    if given.json:
        found = [
            {**dataclasses.asdict(row), "images_per_s": row.images_per_s, "limit": row.limit}
            for row in rows
        ]
        files.save_json(
            {"assumptions": dataclasses.asdict(given), "weights": weights, "rows": found},
            given.json,
        )


def count_weights(given: Assumptions) -> int:
    """Trainable weights of the model, encoder and head."""
    model = siamese.build_siamese(given.model, given.identities)
    return sum(int(variable.shape.num_elements()) for variable in model.trainable_variables)


def predict(accelerators: int, weights: int, given: Assumptions) -> Row:
    """The parts of a step of so many accelerators."""
    used = min(accelerators, given.per_host)
    hosts = -(-accelerators // given.per_host)
    images = given.images * given.accumulate_steps
    return Row(
        accelerators,
        hosts,
        compute_s=images / given.images_per_s,
        input_s=images * used / host_images_per_s(given),
        all_reduce_s=all_reduce_s(used, hosts, BYTES_PER_GRADIENT * weights, given),
        images=images * accelerators,
    )


def host_images_per_s(given: Assumptions) -> float:
    """The lower of what a host's cores decode and what its training process takes over."""
    return min(
        given.cores * given.images_per_cpu_s, 1e6 / given.host_us if given.host_us else float("inf")
    )


def all_reduce_s(used: int, hosts: int, size: int, given: Assumptions) -> float:
    """Seconds of a ring inside each host and, after it, one over the hosts."""
    inside = _ring_s(used, size, given.device_gbyte * 1e9, given)
    return inside + _ring_s(hosts, size, given.link_gbit * 1e9 / BITS, given)


def lines(rows: list[Row], weights: int, given: Assumptions) -> list[str]:
    """The counts that hold for all, then the table."""
    need = given.images_per_s / given.images_per_cpu_s
    megabytes = BYTES_PER_GRADIENT * weights / 1e6
    disk = given.images_per_s * given.per_host * given.image_bytes / 1e6
    shown = [
        f"{weights:,} trainable weights, {megabytes:.1f} MB of gradients a step; "
        f"{need:.2f} busy cores feed one accelerator",
        f"a full host reads {disk:,.0f} MB/s and decodes at most "
        f"{host_images_per_s(given):,.0f} images/s",
        f"{'accelerators':>12}{'hosts':>7}{'pairs/step':>12}{'compute ms':>12}{'input ms':>10}"
        f"{'all-reduce ms':>15}{'images/s':>12}{'efficiency':>12}  limit: what moves it",
    ]
    for row in rows:
        parts = (
            f"{1e3 * row.compute_s:>12.1f}{1e3 * row.input_s:>10.1f}{1e3 * row.all_reduce_s:>15.1f}"
        )
        rest = f"{row.images_per_s:>12,.0f}{row.efficiency:>12.2f}  {row.limit}: {LINES[row.limit]}"
        shown.append(f"{row.accelerators:>12}{row.hosts:>7}{row.images // 2:>12,}{parts}{rest}")
    return shown


def _ring_s(members: int, size: int, bytes_per_s: float, given: Assumptions) -> float:
    """2 (n − 1) hops, each of 1/n of the bytes."""
    hops = 2 * (members - 1)
    return hops * (size / members / bytes_per_s + given.latency_us / 1e6)


if __name__ == "__main__":
    cli.run(main, Assumptions, description=__doc__)
