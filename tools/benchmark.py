"""Measures your own shards, host and model: what the input feeds, what the model takes, which of them is the bottleneck.

python tools/benchmark.py --tfrecords=DIR --backbone=inception_v3 --image_size=139 --global_batch_size=64
"""

from fv import cli, files, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.benchmarking import run


def main(options: run.BenchmarkOptions) -> None:
    """Prints three rates and a verdict, and writes them to `--json`."""
    report = run.benchmark(options)
    print("\n".join(report.lines()))
    if options.json:
        files.save_json(report.figures(), options.json)


if __name__ == "__main__":
    cli.run(main, run.BenchmarkOptions, description=__doc__)
