"""Whitens a trained model's embeddings with its genuine training pairs.

python -m fv.whiten --workdir=DIR --tfrecords=DIR --output=NEW_DIR

What images of one person differ in, such as light or pose, counts for less in the similarity; what
they share counts for more. The matrix becomes part of the last layer, so the model is as fast as
before. fv.evaluate, fv.export and --teacher take the new folder like the first.
"""

from fv import cli, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.whitening import WhitenOptions, whiten


def run() -> None:
    """The console script."""
    cli.run(whiten, WhitenOptions, description=__doc__)


if __name__ == "__main__":
    run()
