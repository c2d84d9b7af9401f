"""CSV tables that users give and that fv reads back. Every column is read as text.

A table is UTF-8, with or without a byte order mark, separated by commas, with lines that end in LF
or CRLF and fields that may be quoted (RFC 4180). The first line names the columns. Blank rows are
skipped. Missing fields at the end of a row are blank; blank extra fields are ignored.
"""

import csv
import dataclasses
import io
import itertools
import math
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

import numpy as np
import pandas as pd

from fv import files, record
from fv.errors import UserError

LABELS = {
    **dict.fromkeys(("1", "1.0", "true"), record.GENUINE),
    **dict.fromkeys(("0", "0.0", "false"), record.IMPOSTOR),
}
"""The labels that every command takes, in any case and with blanks around them."""

NO_LABEL = -1  # of a row whose label is blank, where that is allowed

_BLOCK_ROWS = 1024  # read at once: more do not fit into the processor's cache
_OTHER_DELIMITERS = {";": "';'", "\t": "tabs", "|": "'|'"}
_LINE_BREAK = re.compile(r"\r\n?|\n")
_SHOWN = 60  # characters of a text in a message


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Consecutive rows of a table.

    Attributes:
      path: the file, for messages.
      names: of all columns in their order, without blanks around them.
      texts: of each column, the fields as they are in the file.
      lines: of each row, the line of the file on which it begins, from 1.
    """

    path: str
    names: Sequence[str]
    texts: Sequence[Sequence[str]]
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Sequence[str]:
        return self.texts[self.names.index(name)]

    def place(self, row: int) -> str:
        """The place of a row, for messages."""
        return f"{self.path}, line {self.lines[row]}"

    def labels(self, name: str, *, blank_allowed: bool = False) -> np.ndarray:
        """Parses a column of `LABELS` to int8 [rows].

        Args:
          name: of the column.
          blank_allowed: give a blank field `NO_LABEL` instead of refusing it.

        Raises:
          UserError: a field is not a label.
        """
        known: Mapping[str, int] = {**LABELS, "": NO_LABEL} if blank_allowed else LABELS
        values = {text: known.get(text.strip().lower()) for text in set(self[name])}
        found = [values[text] for text in self[name]]
        if None in found:
            row = found.index(None)
            raise UserError(
                f"{self.place(row)}: label '{_shorten(self[name][row].strip())}' is neither 1 "
                "(same person) nor 0 (different people); true and false, 1.0 and 0.0 are taken too"
            )
        return np.array(found, np.int8)

    def numbers(self, name: str) -> np.ndarray:
        """Parses a column of finite decimal numbers such as -1.5e-3 to float64 [rows].

        Raises:
          UserError: a field is not such a number.
        """
        found = [parse_number(text) for text in self[name]]
        if None not in found:
            return np.array(found, np.float64)
        row = found.index(None)
        text, advice = self[name][row].strip(), "give a number such as -0.25"
        if text.count(",") == 1 and parse_number(text.replace(",", ".")) is not None:
            advice = f"decimals take a point, as in {text.replace(',', '.')}"
        raise UserError(
            f"{self.place(row)}: {name} '{_shorten(text)}' is no finite number: {advice}"
        )


def read(path: str, needed: Sequence[str]) -> Rows:
    """Reads a whole table; arguments and errors as `read_blocks`."""
    blocks = list(read_blocks(path, needed))
    columns = zip(*(block.texts for block in blocks), strict=True)
    texts = [list(itertools.chain.from_iterable(parts)) for parts in columns]
    return Rows(path, blocks[0].names, texts, [line for block in blocks for line in block.lines])


def read_blocks(path: str, needed: Sequence[str]) -> Iterator[Rows]:
    """Reads a table in blocks of rows, so that memory holds one block; there is at least one row.

    Args:
      path: the file.
      needed: columns that its first line has to name, each once.

    Raises:
      UserError: the file is not such a table, or has no row.
      OSError: no such file.
    """
    try:
        with io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline="") as file:
            yield from _read_blocks(file, path, needed)
    except UnicodeDecodeError as error:
        where = f"{path}, line {_find_undecodable_line(path)}"
        raise UserError(
            f"{where} cannot be read as a CSV in UTF-8 ({error.reason}): save it as CSV in UTF-8"
        ) from error


def read_names(path: str) -> list[str]:
    """Reads the names of a table's columns; [] if there is no such file or it is not a table.

    Raises:
      OSError: the file cannot be read.
    """
    try:
        with io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline="") as file:
            return _read_names(csv.reader(file, strict=True), path)
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError, UserError):
        return []


def require_columns(path: str, names: Sequence[str], needed: Sequence[str]) -> None:
    """Raises UserError if a table's column `names` lack one of `needed` or repeat it."""
    missing = [name for name in needed if name not in names]
    if missing:
        first = ",".join(names)
        other = next((said for sign, said in _OTHER_DELIMITERS.items() if sign in first), None)
        why = (
            f"is separated by {other}: separate it by commas"
            if other
            else f"is '{_shorten(first)}'"
        )
        raise UserError(
            f"{path} has no column {', '.join(missing)}: its first line has to name "
            f"{', '.join(needed)}, and {why}"
        )
    twice = [name for name in needed if list(names).count(name) > 1]
    if twice:
        raise UserError(f"{path}, line 1: column {twice[0]} is there twice: name each column once")


def write(path: str, columns: pd.DataFrame) -> None:
    """Writes a table that `read` reads back with the same texts, atomically."""
    texts = columns.select_dtypes(exclude="number")
    values = (texts.iloc[:, number].unique() for number in range(texts.shape[1]))
    # csv.QUOTE_MINIMAL does not quote a carriage return, which would end the line
    returns = any("\r" in str(value) for value in itertools.chain.from_iterable(values))
    quoting = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    with files.atomic_open(path) as file:
        columns.to_csv(file, index=False, quoting=quoting, lineterminator="\n")


def parse_number(text: str) -> float | None:
    """Parses a finite decimal number such as -1.5e-3; None if the text is not one."""
    try:  # float() also takes underscores and digits of other scripts
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def without_blanks(path: str) -> str:
    """The normal form of a path without blanks around it, which follow commas in some tables."""
    return posixpath.normpath(path.strip())


def normal_path(path: str, where: str, root: str | None = None) -> str:
    """Normalises the path of an image below the images folder: no '.', '..' or doubled slashes.

    Args:
      path: as the table has it.
      where: its place, for messages.
      root: the images folder; if given, absolute paths below it are made relative.

    Raises:
      UserError: it is empty or leaves the folder.
    """
    if not path.strip():
        raise UserError(f"{where}: an image's path is empty")
    if "\0" in path:
        raise UserError(f"{where}: the path holds a zero byte: save the file as text in UTF-8")
    normal = posixpath.normpath(path)
    if root is not None and posixpath.isabs(normal) and not files.is_remote(root):
        folders = os.path.abspath(root), os.path.realpath(root)
        below = [os.path.relpath(normal, folder) for folder in folders]
        normal = next((each for each in below if each.split("/")[0] != ".."), normal)
    if normal == "." or posixpath.isabs(normal) or normal.split("/")[0] == "..":
        raise UserError(
            f"{where}: '{path}' leaves the images folder: give paths relative to --images"
        )
    return normal


def _read_blocks(file: IO[str], path: str, needed: Sequence[str]) -> Iterator[Rows]:
    reader = csv.reader(file, strict=True)
    names = _read_names(reader, path)
    require_columns(path, names, needed)
    empty = True
    while True:
        begin, failure = reader.line_num + 1, None
        rows: list[list[str]] = []
        try:
            rows.extend(itertools.islice(reader, _BLOCK_ROWS))
        except csv.Error as error:  # the rows before it are in `rows`
            failure = error
        # without line breaks inside fields, each row is one line
        one_line_each = failure is None and reader.line_num + 1 == begin + len(rows)
        lines = range(begin, begin + len(rows)) if one_line_each else _count_lines(rows, begin)
        if failure:
            raise _not_csv(path, lines[len(rows)], failure) from failure
        if not rows:
            break
        if set(map(len, rows)) != {len(names)} or any(map(_is_blank, rows)):
            rows, lines = _fit_to_columns(rows, lines, len(names), path)
        if rows:
            empty = False
            yield Rows(path, names, list(zip(*rows, strict=True)), lines[: len(rows)])
    if empty:
        raise UserError(
            f"{path} lists nothing: it has no row; give one line for each below {','.join(needed)}"
        )


def _read_names(reader: Iterator[list[str]], path: str) -> list[str]:
    """The fields of the first line that is not blank, without blanks around them."""
    try:
        return [name.strip() for name in next((row for row in reader if "".join(row).strip()), [])]
    except csv.Error as error:
        raise _not_csv(path, 1, error) from error


def _not_csv(path: str, line: int, error: csv.Error) -> UserError:
    return UserError(
        f"{path}, line {line}: the row cannot be read as a CSV ({error}): put a field that holds a "
        "comma, a quote or a line break in double quotes, and double the quotes in it"
    )


def _count_lines(rows: Sequence[Sequence[str]], begin: int) -> Sequence[int]:
    """The line on which each row begins, and that of the row after them."""
    breaks = (sum(len(_LINE_BREAK.findall(field)) for field in row) for row in rows)
    return list(itertools.accumulate((1 + count for count in breaks), initial=begin))


def _fit_to_columns(
    rows: list[list[str]], lines: Sequence[int], count: int, path: str
) -> tuple[list[list[str]], list[int]]:
    """The rows that are not blank, with `count` fields each, and their lines."""
    kept = [(row, line) for row, line in zip(rows, lines, strict=False) if not _is_blank(row)]
    for row, line in kept:
        if "".join(row[count:]).strip():
            raise UserError(
                f"{path}, line {line}: {len(row)} fields where the first line names {count} "
                "columns: put a field that holds a comma in double quotes"
            )
    return [row[:count] + [""] * (count - len(row)) for row, _ in kept], [line for _, line in kept]


def _is_blank(row: Sequence[str]) -> bool:
    return not (row and row[0].strip()) and not "".join(row).strip()


def _open(path: str) -> IO[bytes]:
    return io.BytesIO(files.read_bytes(path)) if files.is_remote(path) else files.open_bytes(path)


def _find_undecodable_line(path: str) -> int:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
