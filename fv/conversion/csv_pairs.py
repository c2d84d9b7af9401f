"""Pairs from a CSV with the columns image_a, image_b and label."""

import numpy as np
import pandas as pd

from fv import tables

COLUMNS = ("image_a", "image_b", "label")


def read(path: str, root: str | None = None) -> pd.DataFrame:
    """Reads the pairs of a CSV; further columns are passed over.

    Args:
      path: the CSV; paths in it are relative to the images folder, labels are those of `tables.LABELS`.
      root: the images folder; with it, absolute paths below it are taken too.

    Returns:
      A table with columns `a`, `b` (normal relative paths), `label` (int64) and `line` (its number in the file, from 1).

    Raises:
      UserError: a column is missing, no pair, or a line cannot be used, named by its number.
      OSError: no such file.
    """
    rows = tables.read(path, COLUMNS)
    labels = rows.labels("label").astype(np.int64)
    a, b = (
        [tables.normal_path(text, rows.place(row), root) for row, text in enumerate(rows[name])]
        for name in COLUMNS[:2]
    )
    return pd.DataFrame({"a": a, "b": b, "label": labels, "line": rows.lines}).astype(
        {"a": object, "b": object}
    )
