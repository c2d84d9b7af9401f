"""Evaluates a model on new people: python -m fv.evaluate --workdir=DIR --tfrecords=DIR --split=test

Other pairs: --images=DIR with --pairs_file=pairs.txt (LFW's format, its folds) or --pairs_csv=FILE.
Scores of another system: --scores=FILE with --folds=K or --threshold_scores=FILE.
Finished evaluations side by side: python -m fv.evaluate --compare RUN RUN …
"""

from fv import cli
from fv.errors import UserError
from fv.evaluation import comparison, given_scores
from fv.evaluation.options import EvaluateOptions


def evaluate(options: EvaluateOptions, *runs: str) -> None:
    """Evaluates a workdir's model, or scores, or compares finished evaluations.

    Writes metrics.json and plots; for a model also report.html, scores.csv and evaluate.flags.
    Prints a table.

    Args:
      options: with `compare`, the first of the evaluations to compare.
      runs: the others.

    Raises:
      UserError: no model, pairs or scores; flags contradict each other; the model was trained on
        people of the pairs; or similarities are not finite.
    """
    if options.compare:
        comparison.compare([options.compare, *runs], options.output)
        return
    if runs:
        raise UserError(f"'{runs[0]}' is no flag: only --compare takes folders after it")
    options.check()
    if options.scores:
        given_scores.evaluate_scores(options)
        return
    # only a model needs TensorFlow, which takes seconds to load
    from fv import quiet_tensorflow  # noqa: F401
    from fv.evaluation import trained_model

    trained_model.evaluate_model(options)


def run() -> None:
    """The console script."""
    cli.run(evaluate, EvaluateOptions, positional=["…"], description=__doc__)


if __name__ == "__main__":
    run()
