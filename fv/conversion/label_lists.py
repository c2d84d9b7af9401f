"""A list of labels beside a folder of images, as CelebA has it.

A line holds the path of an image and its label, separated by a comma, a tab or blanks. A first line
that names columns may stand before them.
"""

import csv
import io
import itertools
from collections.abc import Iterator, Sequence

from fv import files, tables
from fv.conversion import datasets
from fv.conversion.datasets import Catalog
from fv.errors import UserError

_PATHS = tuple("path image file file_name filename image_id image_path img".split())


def list_images(folder: str, source: str, merge_names: bool = False) -> Catalog:
    """Lists the images below a folder that a list labels; the others are unusable.

    Args:
      folder: the images folder.
      source: the list.
      merge_names: as for `datasets.scan_folders`.

    Raises:
      UserError: the list cannot be used, or there is no such folder.
      OSError: the list cannot be read.
    """
    images, bad, others = datasets.list_files(folder)
    labels: dict[str, str] = {}
    lines: dict[str, int] = {}
    unusable = dict(bad)
    for line, text, label in read_list(source):
        path = tables.normal_path(text.strip(), f"--labels={source}, line {line}", folder)
        first = lines.setdefault(path, line)
        if not label:
            unusable[path] = f"no label in {source}, line {line}"
        elif labels.setdefault(path, label) != label:
            unusable[path] = (
                f"listed under two people: '{labels[path]}' ({source}, line {first}) and "
                f"'{label}' (line {line})"
            )
    found = set(images)
    for path, line in lines.items():
        if path not in found:
            unusable.setdefault(path, f"no such image below --images, but in {source}, line {line}")
    for path in found.difference(lines):
        unusable[path] = f"not in {source}"
    paths = [path for path in images if path not in unusable]
    return Catalog(
        datasets.list_images(paths, [labels[path] for path in paths], merge_names),
        datasets.list_unusable(unusable.items()),
        others,
        root=folder,
    )


def read_list(source: str) -> Iterator[tuple[int, str, str]]:
    """Yields the number of the line, the path and the label of each row of a list.

    Raises:
      UserError: the file is no text in UTF-8, lists nothing, or a line has no path and label.
    """
    try:
        text = io.TextIOWrapper(files.open_bytes(source), encoding="utf-8-sig", newline="")
        with text as file:
            yield from _read_rows(file, source)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"--labels={source} is no list of paths and labels in UTF-8 ({error}): save it as CSV"
        ) from error


def _read_rows(file: Iterator[str], source: str) -> Iterator[tuple[int, str, str]]:
    first = next(file, "")
    separator = next((sign for sign in "\t," if sign in first), None)
    columns = _find_columns([name.strip().lower() for name in first.split(separator)], source)
    lines = file if columns else itertools.chain([first], file)
    if separator == ",":
        rows: Iterator[list[str]] = csv.reader(lines, strict=True)
    elif separator or columns:
        rows = (line.rstrip("\r\n").split(separator) for line in lines)
    else:  # a path may hold blanks
        rows = (line.rsplit(None, 1) for line in lines)
    path_at, label_at = columns or (0, 1)
    empty = True
    for number, row in enumerate(rows, start=2 if columns else 1):
        if not columns and "".join(row[2:]).strip():
            raise UserError(
                f"--labels={source}, line {number}: {len(row)} fields, and line 1 names no "
                "columns: name them, such as path,label"
            )
        if "".join(row).strip():
            empty = False
            row += [""] * (max(path_at, label_at) + 1 - len(row))
            yield number, row[path_at], row[label_at].strip()
    if empty:
        raise UserError(f"--labels={source} lists nothing: give a line 'path,label' for each image")


def _find_columns(names: Sequence[str], source: str) -> tuple[int, int] | None:
    """The places of the path and the label in each line; None where a line names no columns."""
    path = next((names.index(name) for name in _PATHS if name in names), None)
    label = next((names.index(name) for name in datasets.LABEL_NAMES if name in names), None)
    if (path is None) != (label is None):
        what, known = ("path", _PATHS) if path is None else ("label", datasets.LABEL_NAMES)
        raise UserError(
            f"--labels={source} names no column of a {what} in {', '.join(names)}: rename it to "
            f"{known[0]}"
        )
    return None if path is None or label is None else (path, label)
