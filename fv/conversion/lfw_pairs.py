"""Pairs from a file in the format of Labeled Faces in the Wild, http://vis-www.cs.umass.edu/lfw/README.txt.

The first line counts the pairs: `N` (View 1), or `folds N` (View 2). Then, for each fold, N genuine lines `name i j` and N
impostor lines `name1 i name2 j`, tab-separated. Image i of a name is NAME/NAME_0001.jpg for i = 1.
"""

import os
import re
from collections.abc import Iterable

import pandas as pd

from fv import files, record
from fv.conversion import catalog
from fv.errors import UserError

_LINE_END = re.compile(r"\r\n?|\n")
_GENUINE_FIELDS, _IMPOSTOR_FIELDS = 3, 4


def read(path: str, images: pd.DataFrame, level: int = 1) -> pd.DataFrame:
    """Reads the pairs of a file in LFW's format.

    Args:
      path: the pairs file.
      images: the catalog, which tells the suffixes of the files.
      level: which folder of an image's path names the person.

    Returns:
      A table with columns `a`, `b` (relative paths; of an image that the catalog lacks, the path with .jpg), `label` (int64)
      and `line` (its number in the file, from 1).

    Raises:
      UserError: no such file, or a line that is not in the format or fits several images, named by its number.
    """
    lines = _read_lines(path)
    folds, count = _parse_header(lines[0] if lines else "", path)
    held, promised = len(lines) - 1, 2 * folds * count
    if held != promised:
        raise UserError(
            f"{path} has {held} pairs where its first line promises {promised}: it was cut short or changed"
        )
    by_stem = _by_stem(images["path"], level)
    rows = [_parse_pair(line, number, path) for number, line in enumerate(lines[1:], start=2)]
    for index, (_, _, label, number) in enumerate(rows):
        if label != (record.GENUINE if index // count % 2 == 0 else record.IMPOSTOR):
            raise UserError(
                f"{path}, line {number}: genuine and impostor pairs are not in runs of {count} as line 1 says"
            )
    found = [
        (_find(a, by_stem, path, number), _find(b, by_stem, path, number), label, number)
        for a, b, label, number in rows
    ]
    return pd.DataFrame(found, columns=["a", "b", "label", "line"])


def count_folds(path: str) -> int:
    """Number of folds of equal size that a file in LFW's format holds; errors as in `read`."""
    lines = _read_lines(path)
    return _parse_header(lines[0] if lines else "", path)[0]


def _read_lines(path: str) -> list[str]:
    try:
        text = files.read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8: give an LFW pairs file") from error
    return (
        _LINE_END.split(text.rstrip()) if text.strip() else []
    )  # splitlines() also splits at letters that names may hold


def _parse_header(line: str, path: str) -> tuple[int, int]:
    """(folds, pairs of each label in a fold)"""
    numbers = line.split()
    if not 1 <= len(numbers) <= 2 or not all(
        _is_number(number) and int(number) for number in numbers
    ):
        raise UserError(
            f"{path}, line 1: '{line[:40]}' is not the number of pairs (View 1) or of folds and pairs (View 2)"
        )
    return (1, int(numbers[0])) if len(numbers) == 1 else (int(numbers[0]), int(numbers[1]))


def _parse_pair(line: str, number: int, path: str) -> tuple[str, str, int, int]:
    fields = line.rstrip("\r\n").split("\t")
    if len(fields) == _GENUINE_FIELDS:
        fields, label = [fields[0], fields[1], fields[0], fields[2]], record.GENUINE
    else:
        label = record.IMPOSTOR
    if len(fields) != _IMPOSTOR_FIELDS or not (_is_number(fields[1]) and _is_number(fields[3])):
        raise UserError(
            f"{path}, line {number}: '{line[:60]}' is neither 'name i j' nor 'name1 i name2 j', tab-separated"
        )
    return _stem(fields[0], fields[1]), _stem(fields[2], fields[3]), label, number


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[0-9]{1,9}\s*", text) is not None


def _stem(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}"


def _by_stem(paths: Iterable[str], level: int) -> dict[str, list[str]]:
    """The images by their path from the person's folder on, without the suffix."""
    by_stem: dict[str, list[str]] = {}
    for path in paths:
        stem = os.path.splitext(path.split("/", level - 1)[-1])[0]
        by_stem.setdefault(stem, []).append(path)
    return by_stem


def _find(stem: str, by_stem: dict[str, list[str]], path: str, number: int) -> str:
    images = by_stem.get(stem, [f"{stem}{catalog.SUFFIXES[0]}"])
    if len(images) > 1:
        raise UserError(
            f"{path}, line {number}: {stem} may be {' or '.join(images)}: take all but one of them out of the images "
            "folder, or list the pairs with --pairs_csv, which names files"
        )
    return images[0]
