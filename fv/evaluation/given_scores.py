"""Evaluation of a table of scores, from any system: needs no model, no images and no TensorFlow."""

import dataclasses
import os

import numpy as np

from fv import files, ownership, record, tables, workdir
from fv.conversion import identities
from fv.errors import UserError
from fv.evaluation import figures, protocols, report
from fv.evaluation.options import EvaluateOptions
from fv.evaluation.pairs import Images, PairSet
from fv.evaluation.protocols import Decisions

_PEOPLE = ("identity_a", "identity_b")
_LARGEST = 1e100  # of a score: squares of larger ones overflow
_MOSTLY_DISTINCT = 0.99  # share of scores; below it, equal scores in two files mean nothing
# Rows of two files that are equal by more than chance: at least this many, and this share of the
# shorter file. With six decimals, one in a thousand is equal by chance.
_LEAST_SHARED, _LEAST_SHARE = 10, 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of labelled pairs.

    Attributes:
      scores: float64 [n], higher is more alike.
      labels: int8 [n], 1 for a genuine pair and 0 for an impostor pair.
      pairs: the people of the pairs; None if the file does not name them.
    """

    scores: np.ndarray
    labels: np.ndarray
    pairs: PairSet | None

    def rows(self) -> np.ndarray:
        """Score and label of each pair as one number, complex128 [n], that can be compared."""
        return self.scores + 1j * self.labels


def evaluate_scores(options: EvaluateOptions) -> None:
    """Evaluates the table `options.scores` of checked options; writes metrics.json and plots.

    Raises:
      UserError: a file cannot be used, or lacks pairs to choose a threshold on.
    """
    assert options.scores is not None
    folder = options.output or os.path.splitext(options.scores)[0]
    report.claim_outputs(folder, report.OF_SCORES, options)
    scored = read(options.scores)
    if options.threshold_scores:
        choosing = read(options.threshold_scores)
        decisions = _hold_out(scored, choosing, options)
        rule = f"chosen on {os.path.basename(options.threshold_scores)}"
        notes = [_note_shared(scored, choosing)]
    else:
        decisions = _cross_validate(scored, options)
        rule, notes = f"chosen on the other of {options.folds} folds", []
    if scored.pairs and options.merge_names is None:
        notes.append(identities.note_names(scored.pairs.identities()))
    people = scored.pairs.people() if scored.pairs else None
    content = figures.measure(decisions, {}, people, options.bootstrap, options.seed) | {
        "split": os.path.basename(options.scores),
        "threshold_rule": rule,
        "step": None,
        "notes": [*figures.note_similarities(decisions, {}), *filter(None, notes)],
        "run": {
            "model": {},
            "flags": options.given_flags(),
        },
    }
    with ownership.staged(folder, report.OF_SCORES) as staging:
        files.save_json(content, os.path.join(staging, workdir.METRICS))
        report.draw_plots(staging, decisions, content)
    print(f"{figures.render_table(content)}\nfigures: {os.path.join(folder, workdir.METRICS)}")


def read(path: str) -> ScoreTable:
    """Reads a CSV with the columns label, score and, if people are known, identity_a, identity_b.

    Other columns are ignored. Without a column score, `similarity` of a model's scores.csv is read.
    Labels are those of `tables.LABELS`.

    Raises:
      UserError: a column is missing, a value is not valid, or labels and people disagree.
      OSError: no such file.
    """
    labels, scores, people = [], [], []
    numbers: dict[str, int] = {}  # of the people, in the order in which they appear
    for rows in tables.read_blocks(path, ("label",)):
        named = any(name in rows for name in _PEOPLE)
        column = "similarity" if "similarity" in rows and "score" not in rows else "score"
        tables.require_columns(path, rows.names, ("label", column, *(_PEOPLE if named else ())))
        labels.append(rows.labels("label"))
        scores.append(rows.numbers(column))
        large = np.flatnonzero(np.abs(scores[-1]) > _LARGEST)
        if len(large):
            raise UserError(
                f"{rows.place(large[0])}: score {scores[-1][large[0]]:g} is beyond ±{_LARGEST:g}: "
                "multiply all scores by a smaller number"
            )
        if named:
            people.append(_number_people(rows, labels[-1], numbers))
    all_scores, all_labels = np.concatenate(scores), np.concatenate(labels)
    if not people:
        return ScoreTable(all_scores, all_labels, None)
    first, second = np.concatenate(people, axis=1)
    # one image for each person
    images = Images(list(numbers), list(numbers), np.ones(len(numbers), int), lambda number: b"")
    folds = np.zeros(len(first), np.int64)
    return ScoreTable(
        all_scores, all_labels, PairSet(path, images, first, second, all_labels, folds)
    )


def _number_people(rows: tables.Rows, labels: np.ndarray, numbers: dict[str, int]) -> np.ndarray:
    """Numbers of the two people of each row, int64 [2, rows]; adds new people to `numbers`."""
    columns = [rows[name] for name in _PEOPLE]
    for name in sorted(set[str]().union(*columns).difference(numbers)):
        if not name.strip():
            row = min(column.index(name) for column in columns if name in column)
            raise UserError(f"{rows.place(row)}: an identity is missing")
        numbers[name] = len(numbers)
    people = np.array([list(map(numbers.__getitem__, column)) for column in columns], np.int64)
    wrong = np.flatnonzero((people[0] == people[1]) != (labels == record.GENUINE))
    if len(wrong):
        names = " and ".join(column[wrong[0]] for column in columns)
        raise UserError(
            f"{rows.place(wrong[0])}: the label and the identities disagree: {labels[wrong[0]]} "
            f"for {names}"
        )
    return people


def _hold_out(scored: ScoreTable, choosing: ScoreTable, options: EvaluateOptions) -> Decisions:
    if np.array_equal(np.sort(scored.rows()), np.sort(choosing.rows())):
        raise UserError(
            f"{options.threshold_scores} holds the same labels and scores as {options.scores}, "
            "which are scored: choose the threshold on other scores, or by --folds"
        )
    return protocols.hold_out(scored.scores, scored.labels, choosing.scores, choosing.labels)


def _cross_validate(scored: ScoreTable, options: EvaluateOptions) -> Decisions:
    assert options.folds is not None
    if scored.pairs:
        pairs = protocols.make_folds(scored.pairs, options.folds, options.seed)
        folds = protocols.split_folds(pairs)
    else:
        folds = protocols.deal_pairs(len(scored.labels), options.folds, options.seed)
    return protocols.cross_validate(scored.scores, scored.labels, *folds)


def _note_shared(scored: ScoreTable, choosing: ScoreTable) -> str:
    """The note on pairs in both tables, which share people and score, or score and label."""
    if scored.pairs and choosing.pairs:
        keys = [
            pairs.keys() ^ table.scores.view(np.uint64)
            for pairs, table in ((scored.pairs, scored), (choosing.pairs, choosing))
        ]
        return protocols.note_shared(*keys)
    # without people, only scores that hardly ever repeat identify a pair
    for table in (scored, choosing):
        if len(np.unique(table.scores)) < _MOSTLY_DISTINCT * len(table.scores):
            return ""
    shared = int(np.count_nonzero(np.isin(scored.rows(), choosing.rows())))
    fewest = min(len(scored.labels), len(choosing.labels))
    if shared < max(_LEAST_SHARED, _LEAST_SHARE * fewest):
        return ""
    return (
        f"{shared:,} of the {len(scored.scores):,} scored pairs have the score and the label of "
        "one that chose the threshold: they may be the same pairs."
    )
