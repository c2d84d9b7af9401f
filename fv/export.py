"""Exports a trained verifier as a SavedModel: python -m fv.export --workdir=DIR --output=DIR"""

from fv import cli, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.serving.export import ExportOptions, export


def run() -> None:
    """The console script."""
    cli.run(export, ExportOptions, description=__doc__)


if __name__ == "__main__":
    run()
