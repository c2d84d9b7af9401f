"""CSV files that a user lists images in: read row by row, every mistake named by its line."""

import csv
import io
import posixpath
from collections.abc import Callable, Sequence
from typing import TypeVar

from fv import files
from fv.errors import UserError

Row = TypeVar("Row")


def read(path: str, columns: Sequence[str], parse: Callable[[dict[str, str], str, int], Row]) -> list[Row]:
    """Reads a CSV; columns beside `columns` are passed over.

    Args:
      path: the file, in UTF-8.
      columns: columns that its first line has to name.
      parse: (row by column, place of the row for messages, its line from 1) → what the list holds.

    Returns:
      What `parse` made of each row.

    Raises:
      UserError: not such a CSV, or no row.
      OSError: no such file.
    """
    try:
        text = files.read_bytes(path).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        missing = [name for name in columns if name not in (reader.fieldnames or [])]
        if missing:
            raise UserError(f"{path} has no column {', '.join(missing)}: its first line has to be {','.join(columns)}")
        rows = [parse(row, f"{path}, line {reader.line_num}", reader.line_num) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV in UTF-8 ({error}): give columns {','.join(columns)}") from error
    if not rows:
        raise UserError(f"{path} lists nothing: give one line for each row below {','.join(columns)}")
    return rows


def normal_path(path: str | None, where: str) -> str:
    """The path of an image below the images folder, in its normal form.

    Raises:
      UserError: it is empty or leaves the folder.
    """
    normal = posixpath.normpath((path or "").strip())
    if normal == ".":
        raise UserError(f"{where}: an image's path is empty")
    if posixpath.isabs(normal) or normal.split("/")[0] == "..":
        raise UserError(f"{where}: '{path}' leaves the images folder: give paths relative to --images")
    return normal
