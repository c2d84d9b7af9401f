"""Measures a trained verifier on pairs it never saw: python -m fv.evaluate --workdir=DIR --tfrecords=DIR --split=test"""

from fv import cli, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.evaluation.run import EvaluateOptions, evaluate


def run() -> None:
    """The console script."""
    cli.run(evaluate, EvaluateOptions, description=__doc__)


if __name__ == "__main__":
    run()
