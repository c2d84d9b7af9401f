"""Measures whether the input or the model is the bottleneck, with your shards on this host.

python tools/benchmark.py --flagfile=configs/lfw.flags --tfrecords=DIR
python tools/benchmark.py --tfrecords=DIR --backbone=inception_v3 --global_batch_size=64

It takes all flags and flagfiles of fv.train. Flags of initial weights, averages, teacher,
checkpoints and validation have no effect.
"""

import os

from fv import cli, files, manifest, ownership, quiet_tensorflow  # noqa: F401  TensorFlow first
from fv.benchmarking import BenchmarkOptions, benchmark


def main(options: BenchmarkOptions) -> None:
    """Prints three rates and a verdict, and writes them to `--json`."""
    splits = manifest.read(options.tfrecords).splits.values()
    names = [manifest.FILE_NAME, *(shard.name for split in splits for shard in split.shards)]
    paths = [os.path.join(options.tfrecords, name) for name in names]
    ownership.require_not_read(options.json, "json", paths)
    report = benchmark(options)
    print("\n".join(report.lines()))
    if options.json:
        files.save_json(report.figures(), options.json)


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
