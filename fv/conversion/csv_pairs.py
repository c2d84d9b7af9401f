"""Pairs from a CSV with the columns image_a, image_b and label."""

import csv
import posixpath

import pandas as pd

from fv import record
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
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _require_columns(reader.fieldnames or [], path)
            rows = [_parse_row(row, f"{path}, line {reader.line_num}", reader.line_num) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV in UTF-8 ({error}): give columns {','.join(COLUMNS)}") from error
    if not rows:
        raise UserError(f"{path} lists no pair: give one line for each pair below {','.join(COLUMNS)}")
    return pd.DataFrame(rows, columns=["a", "b", "label", "line"])


def _require_columns(columns: list[str], path: str) -> None:
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}: its first line has to be {','.join(COLUMNS)}")


def _parse_row(row: dict[str, str], where: str, line: int) -> tuple[str, str, int, int]:
    label = (row["label"] or "").strip()
    if label not in _LABELS:
        raise UserError(f"{where}: label '{label}' is neither 1 (same person) nor 0 (different people)")
    return _normal_path(row["image_a"], where), _normal_path(row["image_b"], where), _LABELS[label], line


def _normal_path(path: str | None, where: str) -> str:
    normal = posixpath.normpath((path or "").strip())
    if normal == ".":
        raise UserError(f"{where}: an image's path is empty")
    if posixpath.isabs(normal) or normal.split("/")[0] == "..":
        raise UserError(f"{where}: '{path}' leaves the images folder: give paths relative to --images")
    return normal
