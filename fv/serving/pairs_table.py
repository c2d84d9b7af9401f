"""Verdicts on a table of pairs: every image is read and embedded once, however many pairs it is in."""

import os

import numpy as np
import pandas as pd

from fv import files, progress
from fv.errors import UserError
from fv.serving.quiet_calls import quietly
from fv.serving.verifier import Verifier

IMAGE_A, IMAGE_B, LABEL = "image_a", "image_b", "label"
ANSWERS = ("same", "similarity", "probability", "distance", "threshold")
ERROR = "error"
_BATCH = 32  # images embedded at once


def verify_table(verifier: Verifier, path: str, output: str) -> pd.DataFrame:
    """Writes a CSV of verdicts, one for each row of a CSV of pairs.

    Args:
      verifier: that answers.
      path: CSV with columns image_a and image_b, paths from the CSV's folder on or absolute ones; others are kept.
      output: CSV to write: the columns of `path`, those of `ANSWERS`, and `error`, which says why a row has no answer.

    Returns:
      What was written.

    Raises:
      UserError: no such file, no such columns, no row, or not one whole image.
    """
    table = _read(path)
    folder = os.path.dirname(path)
    images = pd.unique(table[[IMAGE_A, IMAGE_B]].to_numpy().ravel())
    embeddings, errors = _embed(verifier, folder, list(images))
    if not embeddings:
        raise UserError(f"{path}: not one of its {len(images):,} images can be used; the first: {errors[images[0]]}")
    _answer(verifier, table, embeddings, errors)
    with files.atomic_open(output) as file:
        table.to_csv(file, index=False)
    return table


def _answer(verifier: Verifier, table: pd.DataFrame, embeddings: dict[str, np.ndarray], errors: dict[str, str]) -> None:
    """Adds the columns of answers and errors."""
    rows = list(zip(table[IMAGE_A], table[IMAGE_B], strict=True))
    whole = [index for index, row in enumerate(rows) if all(image in embeddings for image in row)]
    sides = [np.array([embeddings[rows[index][side]] for index in whole]) for side in (0, 1)]
    verdicts = verifier.compare(*sides) if whole else []
    for name in ANSWERS:
        table[name] = pd.Series([getattr(verdict, name) for verdict in verdicts], index=whole, dtype=object)
    table[ERROR] = ["; ".join(dict.fromkeys(errors[image] for image in row if image in errors)) for row in rows]


def _read(path: str) -> pd.DataFrame:
    if not os.path.isfile(path):
        raise UserError(f"{path} is no file: give a CSV with the columns {IMAGE_A} and {IMAGE_B}")
    try:
        table = pd.read_csv(path, dtype={IMAGE_A: str, IMAGE_B: str}, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no CSV: {error}") from error
    lacking = [name for name in (IMAGE_A, IMAGE_B) if name not in table.columns]
    if lacking or table.empty:
        raise UserError(
            f"{path} has no {f'column {lacking[0]}' if lacking else 'row'}: its columns are {list(table.columns)}"
        )
    return table.drop(columns=[name for name in (*ANSWERS, ERROR) if name in table.columns])


def _embed(verifier: Verifier, folder: str, images: list[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Embeddings of the images that can be used, and what is wrong with the others."""
    embeddings, errors = {}, {}
    with progress.progress(len(images), "verify", "image") as line:
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            paths = [os.path.join(folder, image) for image in batch]
            try:
                embeddings.update(zip(batch, quietly(verifier.embed, paths), strict=True))
            except UserError:
                _embed_one_by_one(verifier, folder, batch, embeddings, errors)
            line.update(len(batch))
    return embeddings, errors


def _embed_one_by_one(verifier: Verifier, folder: str, batch: list[str], embeddings: dict, errors: dict) -> None:
    for image in batch:
        try:
            embeddings[image] = quietly(verifier.embed, os.path.join(folder, image))
        except UserError as error:
            errors[image] = str(error)
