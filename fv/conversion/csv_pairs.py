"""Pairs from a CSV with the columns image_a, image_b and label."""

import pandas as pd

from fv import record
from fv.conversion import tables
from fv.errors import UserError

COLUMNS = ("image_a", "image_b", "label")
_LABELS = {str(label): label for label in (record.GENUINE, record.IMPOSTOR)}


def read(path: str) -> pd.DataFrame:
    """Reads the pairs of a CSV; further columns are passed over.

    Args:
      path: the CSV; paths in it are relative to the images folder, labels are 1 (same person) and 0 (different people).

    Returns:
      A table with columns `a`, `b` (normal relative paths), `label` (int64) and `line` (its number in the file, from 1).

    Raises:
      UserError: no such file, a column is missing, no pair, or a line cannot be used, named by its number.
    """
    return pd.DataFrame(tables.read(path, COLUMNS, _parse_row), columns=["a", "b", "label", "line"])


def _parse_row(row: dict[str, str], where: str, line: int) -> tuple[str, str, int, int]:
    label = (row["label"] or "").strip()
    if label not in _LABELS:
        raise UserError(f"{where}: label '{label}' is neither 1 (same person) nor 0 (different people)")
    return tables.normal_path(row["image_a"], where), tables.normal_path(row["image_b"], where), _LABELS[label], line
