"""Measures your own shards, host and model: what the input feeds, what the model takes, which of them is the bottleneck.

python tools/benchmark.py --tfrecords=DIR --backbone=inception_v3 --image_size=139 --global_batch_size=64
"""

import os

from fv import cli, files, manifest, ownership, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.benchmarking import run


def main(options: run.BenchmarkOptions) -> None:
    """Prints three rates and a verdict, and writes them to `--json`."""
    ownership.require_not_read(
        options.json, "json", [os.path.join(options.tfrecords, name) for name in _read(options)]
    )
    report = run.benchmark(options)
    print("\n".join(report.lines()))
    if options.json:
        files.save_json(report.figures(), options.json)


def _read(options: run.BenchmarkOptions) -> list[str]:
    """Names of the files that are read."""
    splits = manifest.read(options.tfrecords).splits.values()
    return [manifest.FILE_NAME, *(shard.name for split in splits for shard in split.shards)]


if __name__ == "__main__":
    cli.run(main, run.BenchmarkOptions, description=__doc__)
