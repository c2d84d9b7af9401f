"""Scores that anything gave, evaluated as a model's are: by other scores' threshold, or by folds. No image is looked at."""

import dataclasses
import os

import numpy as np
import pandas as pd
from pandas.api import types

from fv import files, ownership, workdir
from fv.errors import UserError
from fv.evaluation import bootstrap, figures, outputs, protocols, report, table
from fv.evaluation.options import EvaluateOptions
from fv.evaluation.pair_set import Images, PairSet
from fv.evaluation.protocols import Judged

_SCORES, _PEOPLE = ("label", "score"), ("identity_a", "identity_b")
_WRITTEN = "similarity"  # what the evaluation of a model calls the score
_TYPES = {"label": np.int8, "score": np.float64, _WRITTEN: np.float64} | dict.fromkeys(_PEOPLE, "category")


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """Scores of labelled pairs.

    Attributes:
      scores: float64 [n], higher for more alike.
      pairs: the people and labels; None where the file names no people.
      labels: int8 [n].
    """

    scores: np.ndarray
    labels: np.ndarray
    pairs: PairSet | None


def evaluate(options: EvaluateOptions) -> None:
    """Judges the scores of `options.scores`; writes metrics.json and the pictures, and prints the table.

    Raises:
      UserError: a file cannot be used, or nothing says where the threshold comes from.
    """
    folder = options.output or os.path.splitext(options.scores)[0]
    outputs.claim(folder, outputs.OF_SCORES, options)
    given = read(options.scores)
    judged, rule = _judge(given, options)
    content = _measure(given, judged, options) | {
        "split": os.path.basename(options.scores),
        "threshold_rule": rule,
        "step": None,
        "notes": figures.warn(judged, {}),
        "run": {"model": {}, "flags": {name: value for name, value in vars(options).items() if value is not None}},
    }
    with ownership.staged(folder, outputs.OF_SCORES) as staging:
        files.save_json(content, os.path.join(staging, workdir.METRICS))
        report.draw(staging, judged, content)
    print(table.render(content))


def read(path: str) -> Given:
    """Reads a CSV with the columns label (1 same person, 0 different people), score and, where people are known,
    identity_a and identity_b; others are passed over, and without a score the similarity of a model's scores.csv is it.

    Raises:
      UserError: a column is missing, a value is none, or labels and people disagree.
    """
    try:
        found = pd.read_csv(path, usecols=lambda name: name in _TYPES, dtype=_TYPES)
    except ValueError as error:
        raise UserError(f"{path} is no CSV of the columns {', '.join(_SCORES + _PEOPLE)}: {error}") from error
    if "score" not in found:
        found = found.rename(columns={_WRITTEN: "score"})
    lacking = [name for name in (_PEOPLE if set(_PEOPLE) & set(found) else ()) + _SCORES if name not in found]
    if lacking:
        raise UserError(f"{path} has no column {lacking[0]}: its first line has to name {', '.join(_SCORES)}")
    labels, scores = found["label"].to_numpy(), found["score"].to_numpy()
    _require(np.isin(labels, (0, 1)), path, "the label is neither 1 (same person) nor 0 (different people)")
    _require(np.isfinite(scores), path, "the score is no finite number")
    if _PEOPLE[0] not in found:
        return Given(scores, labels, None)
    _require(found[list(_PEOPLE)].notna().all(axis=1).to_numpy(), path, "an identity is missing")
    both = types.union_categoricals([found[name] for name in _PEOPLE])
    first, second = both.codes.reshape(2, -1).astype(np.int64)
    _require((first == second) == (labels == 1), path, "the label and the identities disagree")
    people = Images(list(both.categories), list(both.categories), np.zeros(len(both.categories), int), lambda number: b"")
    return Given(scores, labels, PairSet(path, people, first, second, labels, np.zeros(len(labels), np.int64)))


def _require(right: np.ndarray, path: str, wrong: str) -> None:
    if not right.all():
        raise UserError(f"{path}, line {int(np.argmin(right)) + 2}: {wrong}")


def _judge(given: Given, options: EvaluateOptions) -> tuple[Judged, str]:
    if options.threshold_scores:
        others = read(options.threshold_scores)
        judged = protocols.hold_out(given.scores, given.labels, others.scores, others.labels)
        return judged, f"chosen on {os.path.basename(options.threshold_scores)}"
    if given.pairs:
        folds = protocols.split_folds(protocols.make_folds(given.pairs, options.folds, options.seed))
    else:
        dealt = np.random.default_rng(options.seed).permutation(len(given.labels)) % options.folds
        folds = tuple([np.flatnonzero((dealt == fold) == own) for fold in range(options.folds)] for own in (False, True))
    return protocols.cross_validate(given.scores, given.labels, *folds), f"chosen on the other of {options.folds} folds"


def _measure(given: Given, judged: Judged, options: EvaluateOptions) -> dict:
    plan = bootstrap.Plan(options.bootstrap if given.pairs else 0, options.seed)
    found = figures.measure(judged) | {"probability": figures.measure_probability(judged), "baselines": {}}
    intervals = figures.measure_intervals(judged, given.pairs.people(), plan) if given.pairs else {}
    return found | intervals | {"bootstrap": figures.describe_bootstrap(plan)}
