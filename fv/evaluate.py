"""Measures a trained verifier on people it never saw: python -m fv.evaluate --workdir=DIR --tfrecords=DIR --split=test

Instead of a split of shards: --images=DIR with --pairs_file=pairs.txt (LFW's format, with its folds) or --pairs_csv=FILE.
Given scores instead of a model's: --scores=FILE with --folds=K or --threshold_scores=FILE.
Finished evaluations side by side: python -m fv.evaluate --compare RUN RUN …
"""

from fv import cli
from fv.evaluation.run import EvaluateOptions, evaluate


def run() -> None:
    """The console script."""
    cli.run(evaluate, EvaluateOptions, positional=["…"], description=__doc__)


if __name__ == "__main__":
    run()
