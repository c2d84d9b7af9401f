"""Scores that anything gave, evaluated as a model's are: by other scores' threshold, or by folds. No image is looked at."""

import dataclasses
import os

import numpy as np

from fv import files, ownership, record, tables, workdir
from fv.conversion import identities
from fv.errors import UserError
from fv.evaluation import figures, protocols, report
from fv.evaluation.options import EvaluateOptions
from fv.evaluation.pairs import Images, PairSet
from fv.evaluation.protocols import Judged

_PEOPLE = ("identity_a", "identity_b")
_LARGEST = 1e100  # of a score: squares of larger ones overflow
_DISTINCT = 0.99  # share of scores without which equal ones in two files tell nothing
_LEAST_SHARED = 10  # rows
_SHARED = 0.1  # share of rows; six decimals make one in a thousand equal by chance
_WRITTEN = "similarity"  # what the evaluation of a model calls the score


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


def evaluate_scores(options: EvaluateOptions) -> None:
    """Judges the scores of `options.scores`; writes metrics.json and the pictures, and prints the table.

    Raises:
      UserError: a file cannot be used, or nothing says where the threshold comes from.
    """
    folder = options.output or os.path.splitext(options.scores)[0]
    report.claim_outputs(folder, report.OF_SCORES, options)
    given = read(options.scores)
    others = read(options.threshold_scores) if options.threshold_scores else None
    judged, rule = _judge(given, others, options)
    content = _measure(given, judged, options) | {
        "split": os.path.basename(options.scores),
        "threshold_rule": rule,
        "step": None,
        "notes": [
            *figures.warn_of_similarities(judged, {}),
            *_note_shared(given, others),
            *_note_people(given, options),
        ],
        "run": {
            "model": {},
            "flags": {name: value for name, value in vars(options).items() if value is not None},
        },
    }
    with ownership.staged(folder, report.OF_SCORES) as staging:
        files.save_json(content, os.path.join(staging, workdir.METRICS))
        report.draw_figures(staging, judged, content)
    print(figures.render_table(content))


def _note_people(given: Given, options: EvaluateOptions) -> list[str]:
    note = (
        identities.note_names(given.pairs.names())
        if given.pairs and options.merge_names is None
        else ""
    )
    return [note] if note else []


def read(path: str) -> Given:
    """Reads a CSV with the columns label, score and, where people are known, identity_a and identity_b.

    Further columns are passed over; without a score, the similarity of a model's scores.csv is it. Labels are those of
    `tables.LABELS`.

    Raises:
      UserError: a column is missing, a value is none, or labels and people disagree.
      OSError: no such file.
    """
    labels, scores, people = [], [], []
    numbers: dict[str, int] = {}  # of the people, in the order in which they are met
    for rows in tables.read_blocks(path, ("label",)):
        named = any(name in rows for name in _PEOPLE)
        score = _WRITTEN if _WRITTEN in rows and "score" not in rows else "score"
        tables.require_columns(path, rows.names, ("label", score, *(_PEOPLE if named else ())))
        labels.append(rows.labels("label"))
        scores.append(rows.numbers(score))
        large = np.flatnonzero(np.abs(scores[-1]) > _LARGEST)
        if len(large):
            said = f"score {scores[-1][large[0]]:g} is beyond ±{_LARGEST:g}"
            raise UserError(
                f"{rows.place(large[0])}: {said}: multiply all scores by a smaller number"
            )
        if named:
            people.append(_number_people(rows, labels[-1], numbers))
    joined = np.concatenate(scores), np.concatenate(labels)
    if not people:
        return Given(*joined, None)
    first, second = np.concatenate(people, axis=1)
    images = Images(list(numbers), list(numbers), np.zeros(len(numbers), int), lambda number: b"")
    return Given(
        *joined, PairSet(path, images, first, second, joined[1], np.zeros(len(first), np.int64))
    )


def _number_people(rows: tables.Rows, labels: np.ndarray, numbers: dict[str, int]) -> np.ndarray:
    """Numbers of both people of each row, int64 [2, rows]; adds people who are new to `numbers`."""
    names = [rows[name] for name in _PEOPLE]
    found = [list(map(numbers.get, column)) for column in names]
    if any(None in column for column in found):
        new = sorted(set().union(*names).difference(numbers))
        if not all(map(str.strip, new)):
            row = next(
                row
                for row, pair in enumerate(zip(*names, strict=True))
                if not all(map(str.strip, pair))
            )
            raise UserError(f"{rows.place(row)}: an identity is missing")
        numbers |= zip(new, range(len(numbers), len(numbers) + len(new)), strict=True)
        found = [list(map(numbers.get, column)) for column in names]
    found = np.array(found, np.int64)
    disagree = np.flatnonzero((found[0] == found[1]) != (labels == record.GENUINE))
    if len(disagree):
        pair = " and ".join(column[disagree[0]] for column in names)
        said = f"the label and the identities disagree: {labels[disagree[0]]} for {pair}"
        raise UserError(f"{rows.place(disagree[0])}: {said}")
    return found


def _judge(given: Given, others: Given | None, options: EvaluateOptions) -> tuple[Judged, str]:
    if others:
        if _same_rows(given, others):
            same = f"{options.threshold_scores} holds the same labels and scores as {options.scores}, which are scored"
            raise UserError(f"{same}: choose the threshold on other scores, or by --folds")
        judged = protocols.hold_out(given.scores, given.labels, others.scores, others.labels)
        return judged, f"chosen on {os.path.basename(options.threshold_scores)}"
    if given.pairs:
        folds = protocols.split_folds(
            protocols.make_folds(given.pairs, options.folds, options.seed)
        )
    else:
        folds = protocols.deal_pairs(len(given.labels), options.folds, options.seed)
    return protocols.cross_validate(
        given.scores, given.labels, *folds
    ), f"chosen on the other of {options.folds} folds"


def _same_rows(given: Given, others: Given) -> bool:
    """Whether both have the same labels with the same scores, in whatever order: then one would choose for itself."""
    if len(given.labels) != len(others.labels):
        return False
    rows = [np.lexsort((one.labels, one.scores)) for one in (given, others)]
    columns = [
        (one.scores[order], one.labels[order])
        for one, order in zip((given, others), rows, strict=True)
    ]
    return all(np.array_equal(*pair) for pair in zip(*columns, strict=True))


def _note_shared(given: Given, others: Given | None) -> list[str]:
    """Pairs of both files, known by their people and their score; without people by distinct scores alone."""
    if not others:
        return []
    if not (given.pairs and others.pairs):
        return _note_equal_scores(given, others)
    keys = [one.pairs.keys() ^ one.scores.view(np.uint64) for one in (given, others)]
    note = protocols.note_shared(*keys)
    return [note] if note else []


def _note_equal_scores(given: Given, others: Given) -> list[str]:
    """Rows of both files with one score and one label, where too many are equal for a coincidence."""
    if any(len(np.unique(one.scores)) < _DISTINCT * len(one.scores) for one in (given, others)):
        return []
    rows = [one.scores + 1j * one.labels for one in (given, others)]
    shared = int(np.count_nonzero(np.isin(*rows)))
    if shared < max(_LEAST_SHARED, _SHARED * min(map(len, rows))):
        return []
    which = f"{shared:,} of the {len(given.scores):,} scored pairs"
    return [
        f"{which} have the score and the label of one that chose the threshold: they may be the same pairs."
    ]


def _measure(given: Given, judged: Judged, options: EvaluateOptions) -> dict:
    plan = figures.BootstrapPlan(options.bootstrap if given.pairs else 0, options.seed)
    found = figures.measure(judged) | {
        "probability": figures.measure_probability(judged),
        "baselines": {},
    }
    intervals = figures.measure_intervals(judged, given.pairs.people(), plan) if given.pairs else {}
    return found | intervals | {"bootstrap": figures.describe_bootstrap(plan)}
