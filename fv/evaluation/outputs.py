"""The files of an evaluation in its output folder: their names, and whose they are."""

import os
from collections.abc import Sequence

from fv import files, ownership, workdir
from fv.errors import UserError
from fv.evaluation import report
from fv.evaluation.options import EvaluateOptions

_PICTURES = (report.ROC, report.DET, report.HISTOGRAM, report.RELIABILITY)
OF_SCORES = (workdir.METRICS, *_PICTURES)
OF_MODEL = (
    workdir.METRICS,
    workdir.EVALUATE_FLAGS,
    workdir.SCORES,
    *_PICTURES,
    report.MAP,
    report.FILE_NAME,
)
_KEYS = {"accuracy", "threshold", "auc", "eer", "tar_at_far", "pairs"}  # of metrics.json


def claim(folder: str, names: Sequence[str], options: EvaluateOptions) -> None:
    """Checks, before anything is computed, that an evaluation may write its files into a folder.

    Raises:
      UserError: one of them is there and is not fv's, was changed since, or is read by this evaluation; or the folder
        is a file.
    """
    if os.path.isfile(folder):
        raise UserError(f"{folder} is a file, no folder for an evaluation: give --output")
    read = (options.pairs_list, options.threshold_pairs, options.scores, options.threshold_scores)
    for name in names:
        ownership.require_not_read(os.path.join(folder, name), "output", filter(None, read))
    ownership.claim(folder, names, lambda name: _is_of_earlier_version(folder))


def _is_of_earlier_version(folder: str) -> bool:
    """Whether an earlier fv, which listed no files, evaluated into a folder: then its metrics.json vouches for the rest."""
    path = os.path.join(folder, workdir.METRICS)
    try:
        return (
            workdir.METRICS not in ownership.listed_names(folder)
            and files.load_json(path).keys() >= _KEYS
        )
    except (UserError, AttributeError, FileNotFoundError, NotADirectoryError):
        return False
