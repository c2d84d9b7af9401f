"""Whitens a trained model's embeddings: python -m fv.whiten --workdir=DIR --tfrecords=DIR --output=NEW_DIR

What images of one person differ in, light or pose, comes to count for less, and what they share for more. The matrix goes
into the weights of the last layer, so that nothing costs more afterwards: fv.evaluate, fv.export and --teacher take the new
folder like the first.
"""

from fv import cli, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.whitening.options import WhitenOptions
from fv.whitening.run import whiten


def run() -> None:
    """The console script."""
    cli.run(whiten, WhitenOptions, description=__doc__)


if __name__ == "__main__":
    run()
