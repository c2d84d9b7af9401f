"""Trains a face verifier: python -m fv.train --flagfile=configs/X.flags --tfrecords=DIR --workdir=DIR"""

from fv import cli, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.training.options import TrainOptions
from fv.training.run import train


def run() -> None:
    """The console script."""
    cli.run(train, TrainOptions, description=__doc__)


if __name__ == "__main__":
    run()
