"""Verdicts on a table of pairs, and the figures of its labelled rows."""

import itertools
import os
import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fv import files, metrics, ownership, progress, quiet_tensorflow, record, tables
from fv.errors import UserError
from fv.serving.verifier import Verdict, Verifier

IMAGE_A, IMAGE_B, LABEL = "image_a", "image_b", "label"
ANSWERS = ("same", "similarity", "probability", "distance", "threshold")
ERROR = "error"
_BATCH_SIZE = 32  # images embedded at once


def choose_output(pairs_csv: str, output: str | None) -> str:
    """Returns the path for the verdicts: `output`, or a name that fv makes up from the table's.

    Raises:
      UserError: it is the table itself, or the made-up name is taken by another file.
    """
    if output:
        ownership.require_not_read(output, "output", [pairs_csv])
        return output
    output = f"{os.path.splitext(pairs_csv)[0]}-verdicts.csv"
    answers = (*ANSWERS, ERROR)
    asked = [name for name in tables.read_names(pairs_csv) if name not in answers]
    if files.is_taken(output) and tables.read_names(output) != [*asked, *answers]:
        raise UserError(
            f"{output} is there and is no table of verdicts on {pairs_csv}: give another --output"
        )
    return output


def verify_table(verifier: Verifier, path: str, output: str) -> dict:
    """Writes a CSV with a verdict for each row of a CSV of pairs.

    Every image is read and embedded once.

    Args:
      verifier: gives the verdicts.
      path: CSV with columns image_a and image_b: absolute paths, or relative to the CSV's folder.
        A column label, if there is one, holds labels as in `tables.LABELS` or blanks. Other columns
        are kept as text.
      output: CSV to write: the columns of `path`, `ANSWERS`, and `error`, which says why a row has
        no answer.

    Returns:
      The counts `pairs`, `answered` and `same`. If there is a column label, also the figures over
      the answered rows that have one; None for a figure that needs a label that no row has.

    Raises:
      UserError: there is no such file, column or row, a label is none, or no image can be used.
    """
    if not files.is_file(path):
        raise UserError(f"{path} is no file: give a CSV with the columns {IMAGE_A} and {IMAGE_B}")
    rows = tables.read(path, (IMAGE_A, IMAGE_B))
    read = (IMAGE_A, IMAGE_B, LABEL) if LABEL in rows else (IMAGE_A, IMAGE_B)
    tables.require_columns(path, rows.names, read)
    labels = rows.labels(LABEL, blank_allowed=True) if LABEL in rows else None

    pairs = list(zip(_find(rows[IMAGE_A], path), _find(rows[IMAGE_B], path), strict=True))
    images = list(dict.fromkeys(itertools.chain.from_iterable(pairs)))
    embeddings, errors = _embed(verifier, images)
    if not embeddings:
        reason = f"{rows.place(0)}: {errors[pairs[0][0]]}"
        raise UserError(f"{reason}; not one of its {len(errors):,} images can be used")
    whole = [row for row, pair in enumerate(pairs) if not errors.keys() & set(pair)]
    verdicts: list[Verdict] = []
    if whole:
        ends = [np.array([embeddings[pairs[row][end]] for row in whole]) for end in (0, 1)]
        compared = verifier.compare(ends[0], ends[1])
        verdicts = compared if isinstance(compared, list) else [compared]

    kept = [place for place, name in enumerate(rows.names) if name not in (*ANSWERS, ERROR)]
    # Columns by number first: a name may occur twice.
    table = pd.DataFrame({place: rows.texts[place] for place in kept}, dtype=object)
    table.columns = [rows.names[place] for place in kept]
    for name in ANSWERS:
        values = [getattr(verdict, name) for verdict in verdicts]
        table[name] = pd.Series(values, index=whole, dtype=object)
    table[ERROR] = [
        "; ".join(dict.fromkeys(errors[image] for image in pair if image in errors))
        for pair in pairs
    ]
    tables.write(output, table)

    _note_unlabelled(rows, labels)
    summary = {
        "output": output,
        "pairs": len(pairs),
        "answered": len(whole),
        "same": sum(verdict.same for verdict in verdicts),
    }
    if labels is not None:
        summary |= _measure(verdicts, labels[whole], verifier.threshold)
    return summary


def describe(summary: dict) -> str:
    """The summary of a table as a few short lines."""

    def show(name: str) -> str:
        return "not measurable" if summary[name] is None else f"{summary[name]:.4f}"

    counts = f"{summary['pairs']:,} pairs, {summary['answered']:,} answered"
    lines = [f"{counts}, {summary['same']:,} of them the same person"]
    if summary.get("labelled"):
        lines += [
            f"{summary['labelled']:,} labelled pairs at threshold {summary['threshold']:.4f}:",
            f"  accuracy {show('accuracy')}, AUC {show('auc')}",
            f"  false accept rate {show('false_accept_rate')}",
            f"  false reject rate {show('false_reject_rate')}",
        ]
    elif "labelled" in summary:
        lines.append("no answered pair has a label")
    return "\n".join([*lines, f"verdicts: {summary['output']}"])


def _find(texts: Sequence[str], path: str) -> list[str]:
    """Paths of listed images: exactly as listed, or without blanks around them if there is none."""
    folder = os.path.dirname(path)
    found = []
    for text in texts:
        listed, bare = os.path.join(folder, text), os.path.join(folder, text.strip())
        found.append(bare if listed != bare and not files.exists(listed) else listed)
    return found


def _embed(verifier: Verifier, paths: list[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Embeddings of the images that can be used, and what is wrong with the others."""
    embeddings: dict[str, np.ndarray] = {}
    errors: dict[str, str] = {}

    def embed_one(path: str) -> None:
        try:
            embeddings[path] = quiet_tensorflow.call_quietly(verifier.embed, path)
        except UserError as error:
            errors[path] = str(error)

    with progress.Progress(len(paths), "verify", "image") as line:
        for start in range(0, len(paths), _BATCH_SIZE):
            batch = paths[start : start + _BATCH_SIZE]
            try:
                found = quiet_tensorflow.call_quietly(verifier.embed, batch)
                embeddings.update(zip(batch, found, strict=True))
            except UserError:  # one of them cannot be used
                for path in batch:
                    embed_one(path)
            line.update(len(batch))
    return embeddings, errors


def _note_unlabelled(rows: tables.Rows, labels: np.ndarray | None) -> None:
    """Prints to stderr which rows have no label, or that a column is not read as labels."""
    if labels is None:
        near = [name for name in rows.names if name.lower() == LABEL]
        if near:
            advice = f"is not read: name it {LABEL} to get figures"
            print(f"NOTE: column '{near[0]}' {advice}", file=sys.stderr)
        return
    blank = np.flatnonzero(labels == tables.NO_LABEL)
    if len(blank):
        count = f"{len(blank):,} of {len(labels):,} rows have no label"
        first = f"the first in line {rows.lines[blank[0]]}"
        print(f"NOTE: {count}, {first}: the figures are of the others", file=sys.stderr)


def _measure(verdicts: list[Verdict], labels: np.ndarray, threshold: float) -> dict:
    """Figures of verdicts, over those with a label."""
    labelled = labels != tables.NO_LABEL
    if not labelled.any():
        return {"labelled": 0}
    genuine = labels[labelled] == record.GENUINE
    same = np.array([verdict.same for verdict in verdicts])[labelled]
    similarities = np.array([verdict.similarity for verdict in verdicts])[labelled]
    has_genuine, has_impostors = genuine.any(), not genuine.all()
    return {
        "labelled": len(genuine),
        "accuracy": float((same == genuine).mean()),
        "false_accept_rate": float(same[~genuine].mean()) if has_impostors else None,
        "false_reject_rate": float((~same[genuine]).mean()) if has_genuine else None,
        "auc": metrics.roc(similarities, genuine).auc() if has_genuine and has_impostors else None,
        "threshold": threshold,
    }
