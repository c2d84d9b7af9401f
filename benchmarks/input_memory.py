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
import sys

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)  # for `benchmarks`, run as a script

from benchmarks.side_by_side import memory
from fv import cli, manifest, quiet_tensorflow, workers  # noqa: F401  TensorFlow first, without its start-up noise
from fv.options import option, required
from fv.pipeline import input_pipeline
from fv.pipeline.options import InputOptions
from fv.pipeline.source import PairSource

MIB = 2**20
BATCHES = 60
ROWS = {
    "host": (
        (256, 64, "none"),
        (3500, 64, "none"),
        (256, 256, "none"),
        (256, 64, "encoded"),
        (256, 64, "decoded"),
    ),
    "tensorflow": ((256, 64, "none"), (3500, 64, "none"), (256, 256, "none"), (256, 64, "encoded")),
}
_OF_A_CORE = 1 + 1  # batches in work and waiting for it
_BEYOND_CORES = 2 + 2  # batches that wait for the step, in the step and on their way back
_OF_KERNELS = (
    1 + 2 + 2
)  # batches being filled, that wait for the step, in the step and on their way back
_INDEX_BYTES = 8
_READ_AT_ONCE_BYTES = 8 << 20  # by TensorFlow: a mebibyte of each of eight shards


@dataclasses.dataclass(frozen=True)
class MemoryOptions:
    """What is read."""

    tfrecords: str = required("folder of shards.")
    decoder: str = option("host", "What decodes.", choices=tuple(ROWS))
    load_size: int = option(139, "Side of the images in a batch, in pixels.", lower=8)


def main(options: MemoryOptions) -> None:
    """Prints a row for each setting."""
    print(
        "| shuffle_buffer | batch | cache | formula, MiB | measured, MiB |\n|---|---|---|---|---|"
    )
    context = multiprocessing.get_context("spawn")
    for row in ROWS[options.decoder]:
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as fresh:
            formula, measured = fresh.submit(_measure, options, *row).result()
        print(
            f"| {' | '.join(map(str, row))} | {formula / MIB:.0f} | {measured / MIB:.0f} |",
            flush=True,
        )


def _measure(
    options: MemoryOptions, shuffle_buffer: int, batch_size: int, cache: str
) -> tuple[int, int]:
    source = PairSource.of(
        options.tfrecords, manifest.load(options.tfrecords), "train", options.load_size, 1.0
    )
    batches = dict(batch_size=batch_size, seed=0, shuffle_buffer=shuffle_buffer)
    _draw(
        source, 1, **batches | dict(batch_size=1)
    )  # what is there once, whatever the pipeline: TensorFlow's own start
    before = memory.bytes_now()
    batches = _draw(source, BATCHES, **batches, options=InputOptions(options.decoder, cache=cache))
    formula = _host_formula if options.decoder == "host" else _kernels_formula
    return formula(source, shuffle_buffer, batch_size, cache), memory.bytes_now() - before


def _draw(source: PairSource, count: int, **arguments):
    batches = iter(input_pipeline.training_batches(source, **arguments))
    for _ in itertools.islice(batches, count):
        pass
    return batches


def _host_formula(source: PairSource, shuffle_buffer: int, batch_size: int, cache: str) -> int:
    in_flight = (_OF_A_CORE * workers.cores() + _BEYOND_CORES) * batch_size * _pair_bytes(source)
    return _INDEX_BYTES * (shuffle_buffer + source.split.pairs) + in_flight + _held(source, cache)


def _kernels_formula(source: PairSource, shuffle_buffer: int, batch_size: int, cache: str) -> int:
    encoded = _shard_bytes(source) // source.split.pairs
    in_flight = _OF_KERNELS * batch_size * _pair_bytes(source)
    shuffled = shuffle_buffer * (encoded if cache == "none" else _INDEX_BYTES)
    return shuffled + in_flight + (_READ_AT_ONCE_BYTES if cache == "none" else _held(source, cache))


def _held(source: PairSource, cache: str) -> int:
    return {
        "none": 0,
        "encoded": _shard_bytes(source),
        "decoded": source.split.images * _pair_bytes(source) // 2,
    }[cache]


def _shard_bytes(source: PairSource) -> int:
    return sum(shard.bytes for shard in source.split.shards)


def _pair_bytes(source: PairSource) -> int:
    return 2 * source.image_size**2 * 3


if __name__ == "__main__":
    cli.run(main, MemoryOptions, description=__doc__)
