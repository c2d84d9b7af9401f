"""What the input pipeline's memory is, beside the formula of docs/pipeline.md: shuffle buffer, batches, caches, each alone.

python benchmarks/input_memory.py --tfrecords=DIR

Every row is a process of its own; what counts is the memory that it and the processes below it share out among them (PSS,
Linux only), 60 batches after the pipeline was asked for, less what it was before.
"""

import concurrent.futures
import dataclasses
import itertools
import multiprocessing
import os
import pathlib

from fv import cli, manifest, quiet_tensorflow, workers  # noqa: F401  TensorFlow first, without its start-up noise
from fv.benchmarking import metering
from fv.options import option, required
from fv.pipeline import input_pipeline
from fv.pipeline.options import InputOptions
from fv.pipeline.source import PairSource

MIB = 2**20
BATCHES = 60
ROWS = ((256, 64, "none"), (3500, 64, "none"), (256, 256, "none"), (256, 64, "encoded"), (256, 64, "decoded"))
_BEYOND_CORES = 2 + 2 + 2  # batches whose turn has not come, that wait for the step, in the step and on their way back
_INDEX_BYTES = 8


@dataclasses.dataclass(frozen=True)
class MemoryOptions:
    """What is read."""

    tfrecords: str = required("folder of shards.")
    load_size: int = option(139, "Side of the images in a batch, in pixels.", lower=8)


def main(options: MemoryOptions) -> None:
    """Prints a row for each setting."""
    print("| shuffle_buffer | batch | cache | formula, MiB | measured, MiB |\n|---|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    for row in ROWS:
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as fresh:
            formula, measured = fresh.submit(_measure, options, *row).result()
        print(f"| {' | '.join(map(str, row))} | {formula / MIB:.0f} | {measured / MIB:.0f} |", flush=True)


def _measure(options: MemoryOptions, shuffle_buffer: int, batch_size: int, cache: str) -> tuple[int, int]:
    source = PairSource.of(options.tfrecords, manifest.load(options.tfrecords), "train", options.load_size, 1.0)
    batches = dict(batch_size=batch_size, seed=0, shuffle_buffer=shuffle_buffer)
    _draw(source, 1, **batches | dict(batch_size=1))  # what is there once, whatever the pipeline: TensorFlow's own start
    before = _memory()
    batches = _draw(source, BATCHES, **batches, options=InputOptions(decoder="host", cache=cache))
    return _formula(source, shuffle_buffer, batch_size, cache), _memory() - before


def _draw(source: PairSource, count: int, **arguments):
    batches = iter(input_pipeline.training_batches(source, **arguments))
    for _ in itertools.islice(batches, count):
        pass
    return batches


def _formula(source: PairSource, shuffle_buffer: int, batch_size: int, cache: str) -> int:
    image, split = source.image_size**2 * 3, source.split
    held = {"none": 0, "encoded": sum(shard.bytes for shard in split.shards), "decoded": split.images * image}
    in_flight = (workers.cores() + _BEYOND_CORES) * batch_size * 2 * image
    return _INDEX_BYTES * (shuffle_buffer + split.pairs) + in_flight + held[cache]


def _memory() -> int:
    """Proportional bytes of this process and of all below it."""
    processes = (os.getpid(), *metering.living_below(os.getpid()))
    return sum(map(_proportional_bytes, processes))


def _proportional_bytes(pid: int) -> int:
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    cli.run(main, MemoryOptions, description=__doc__)
