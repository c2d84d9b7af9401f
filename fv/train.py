"""Trains a face verifier: python -m fv.train --flagfile=configs/X.flags --tfrecords=DIR --workdir=DIR

The same command goes on where it was killed. SIGTERM and Ctrl-C save first and end it within seconds with exit code 138; a
second one ends it at once. Where to go on is all that 138 says, also after another worker was lost: start it again. 75 says
that a disk or the network failed for a moment: start it again, too. docs/cluster.md lists all exit codes.
"""

from fv import malloc

malloc.share_one_arena()  # before TensorFlow and numpy have threads

from fv import cli, quiet_tensorflow  # noqa: E402, F401  TensorFlow first, without its start-up noise
from fv.training.options import TrainOptions  # noqa: E402
from fv.training.run import train  # noqa: E402


def run() -> None:
    """The console script."""
    cli.run(train, TrainOptions, description=__doc__)


if __name__ == "__main__":
    run()
