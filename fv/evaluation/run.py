"""An evaluation from its options: of a workdir's model, of given scores, or of finished evaluations side by side."""

from fv.errors import UserError
from fv.evaluation import comparison, given_scores
from fv.evaluation.options import EvaluateOptions


def evaluate(options: EvaluateOptions, *runs: str) -> None:
    """Scores pairs with the workdir's model; writes metrics.json, report.html, scores.csv, the pictures; prints a table.

    With `options.compare` it puts that run and `runs` side by side instead; with `options.scores` there is no model, and
    TensorFlow, which takes seconds to start, is not loaded for either.

    Raises:
      UserError: no model, no such pairs, flags that do not fit each other, pairs of people whom the model was trained on,
        or similarities that are not finite.
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
    from fv import quiet_tensorflow  # noqa: F401
    from fv.evaluation import trained_model

    trained_model.evaluate_model(options)
