"""Verdicts on a table of pairs: every image is read and embedded once, however many pairs it is in."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from fv import progress, quiet_tensorflow, tables
from fv.errors import UserError
from fv.serving.verifier import Verifier

# Calls without what libjpeg writes to stderr of a damaged file: the error says it in one line.
#
# For the command line alone: file descriptor 2 is the whole process's.

Answer = TypeVar("Answer")


def call_quietly(call: Callable[..., Answer], *arguments) -> Answer:
    """What the call returns, or its UserError; stderr is shown after all if it raises anything else."""
    with quiet_tensorflow.hold_back_stderr():
        try:
            return call(*arguments)
        except UserError as error:
            failure = error
    raise failure


IMAGE_A, IMAGE_B, LABEL = "image_a", "image_b", "label"
ANSWERS = ("same", "similarity", "probability", "distance", "threshold")
ERROR = "error"
_BATCH = 32  # images embedded at once


@dataclasses.dataclass(frozen=True, eq=False)
class Verdicts:
    """Verdicts on a table of pairs.

    Attributes:
      table: what was written: the columns of the table that was read as text, those of `ANSWERS`, and `ERROR`.
      labels: int8 [rows], `tables.NO_LABEL` where a row has none; None where the table has no column of labels.
      lines: of each row, its line in the table that was read.
    """

    table: pd.DataFrame
    labels: np.ndarray | None
    lines: Sequence[int]


def verify_table(verifier: Verifier, path: str, output: str) -> Verdicts:
    """Writes a CSV of verdicts, one for each row of a CSV of pairs.

    Args:
      verifier: that answers.
      path: CSV with columns image_a and image_b, paths from the CSV's folder on or absolute ones; others are kept as text.
        A column label, if there is one, holds labels as in `tables.LABELS` or blanks.
      output: CSV to write: the columns of `path`, those of `ANSWERS`, and `error`, which says why a row has no answer.

    Raises:
      UserError: no such file, no such columns, no row, a label that is none, or not one whole image.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path} is no file: give a CSV with the columns {IMAGE_A} and {IMAGE_B}")
    rows = tables.read(path, (IMAGE_A, IMAGE_B))
    tables.require_columns(
        path, rows.names, (IMAGE_A, IMAGE_B, *((LABEL,) if LABEL in rows else ()))
    )
    labels = rows.labels(LABEL, blank_allowed=True) if LABEL in rows else None
    kept = [
        (name, texts)
        for name, texts in zip(rows.names, rows.texts, strict=True)
        if name not in (*ANSWERS, ERROR)
    ]
    table = pd.DataFrame(dict(enumerate(texts for _, texts in kept)), dtype=object)
    table.columns = [name for name, _ in kept]
    pairs = list(zip(*(_find(rows[name], path) for name in (IMAGE_A, IMAGE_B)), strict=True))
    embeddings, errors = _embed(verifier, list(dict.fromkeys(itertools.chain.from_iterable(pairs))))
    if not embeddings:
        raise UserError(
            f"{rows.place(0)}: {errors[pairs[0][0]]}; not one of its {len(errors):,} images can be used"
        )
    _answer(verifier, table, pairs, embeddings, errors)
    tables.write(output, table)
    return Verdicts(table, labels, rows.lines)


def _find(texts: Sequence[str], path: str) -> list[str]:
    """The images' paths from the working folder on: exactly as listed, or else without blanks around them."""
    folder = os.path.dirname(path)
    pairs = [(os.path.join(folder, text), os.path.join(folder, text.strip())) for text in texts]
    return [
        bare if listed != bare and not os.path.exists(listed) else listed for listed, bare in pairs
    ]


def _answer(
    verifier: Verifier,
    table: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    embeddings: dict[str, np.ndarray],
    errors: dict[str, str],
) -> None:
    """Adds the columns of answers and errors."""
    whole = [
        index for index, pair in enumerate(pairs) if all(image in embeddings for image in pair)
    ]
    sides = [np.array([embeddings[pairs[index][side]] for index in whole]) for side in (0, 1)]
    verdicts = verifier.compare(*sides) if whole else []
    for name in ANSWERS:
        table[name] = pd.Series(
            [getattr(verdict, name) for verdict in verdicts], index=whole, dtype=object
        )
    table[ERROR] = [
        "; ".join(dict.fromkeys(errors[image] for image in pair if image in errors))
        for pair in pairs
    ]


def _embed(verifier: Verifier, paths: list[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Embeddings of the images that can be used, and what is wrong with the others."""
    embeddings, errors = {}, {}
    with progress.progress(len(paths), "verify", "image") as line:
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            try:
                embeddings.update(zip(batch, call_quietly(verifier.embed, batch), strict=True))
            except UserError:
                _embed_one_by_one(verifier, batch, embeddings, errors)
            line.update(len(batch))
    return embeddings, errors


def _embed_one_by_one(verifier: Verifier, batch: list[str], embeddings: dict, errors: dict) -> None:
    for path in batch:
        try:
            embeddings[path] = call_quietly(verifier.embed, path)
        except UserError as error:
            errors[path] = str(error)
