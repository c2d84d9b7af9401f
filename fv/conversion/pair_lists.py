"""Pairs from a CSV with the columns image_a, image_b and label."""

import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from fv import files, record, tables
from fv.conversion import datasets
from fv.errors import UserError

COLUMNS = ("image_a", "image_b", "label")


def read_csv_pairs(path: str, root: str | None = None) -> pd.DataFrame:
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


# Pairs from a file in the format of Labeled Faces in the Wild, http://vis-
# www.cs.umass.edu/lfw/README.txt.
#
# The first line counts the pairs: `N` (View 1), or `folds N` (View 2). Then, for each fold, N
# genuine lines `name i j` and N
# impostor lines `name1 i name2 j`, tab-separated. Image i of a name is NAME/NAME_0001.jpg for i =
# 1.

_LINE_END = re.compile(r"\r\n?|\n")
_GENUINE_FIELDS, _IMPOSTOR_FIELDS = 3, 4


def read_lfw_pairs(path: str, images: pd.DataFrame, level: int = 1) -> pd.DataFrame:
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
    images = by_stem.get(stem, [f"{stem}{datasets.SUFFIXES[0]}"])
    if len(images) > 1:
        raise UserError(
            f"{path}, line {number}: {stem} may be {' or '.join(images)}: take all but one of them out of the images "
            "folder, or list the pairs with --pairs_csv, which names files"
        )
    return images[0]


# Pairs that a file lists: all converted as they stand, or a clear refusal, for a protocol must
# not change silently.


def select_images(
    pairs: pd.DataFrame, images: pd.DataFrame, left_out: pd.DataFrame, source: str
) -> pd.DataFrame:
    """The part of the catalog that the pairs use, so that no other image is checked.

    Args:
      pairs: table with columns `a`, `b` (paths), `label` and `line`.
      images: the catalog.
      left_out: what the catalog could not take, with its `reason`.
      source: path of the file that lists the pairs, for messages.

    Returns:
      The rows of `images` that are used, numbered anew.

    Raises:
      UserError: an image is not in the catalog; a pair is of one image, is listed twice, or its label and folders disagree.
    """
    known = set(images["path"])
    _require_images(pairs, known, left_out, source)
    require_agreement(
        pairs, source, dict(zip(images["path"], images["identity"], strict=True)).__getitem__
    )
    require_once(pairs, source)
    used = images[images["path"].isin(pd.concat([pairs["a"], pairs["b"]]))].reset_index(drop=True)
    return used.assign(identity=used["identity"].cat.remove_unused_categories())


def restrict_to_pairs(images: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The images of the catalog that the pairs name; all of them where they name none.

    A list names none where the people are at another level of folders.
    """
    named = images["path"].isin(pd.concat([pairs["a"], pairs["b"]]))
    return images[named] if named.any() else images


def pairs_to_indices(
    pairs: pd.DataFrame, images: pd.DataFrame, left_out: pd.DataFrame, source: str
) -> pd.DataFrame:
    """The pairs by index of image, after the images were checked.

    Args:
      pairs: as in `select_images`.
      images: the sound images, with column `path`.
      left_out: the bad ones, with columns `path` and `reason`.
      source: path of the file that lists the pairs.

    Returns:
      A table with columns `a`, `b` and `label`, all int64.

    Raises:
      UserError: an image of a pair is bad.
    """
    known = set(images["path"])
    _require_images(pairs, known, left_out, source)
    index = pd.Series(images.index, images["path"])
    ends = {column: index[pairs[column]].to_numpy(np.int64) for column in ("a", "b")}
    return pd.DataFrame({**ends, "label": pairs["label"].to_numpy(np.int64)})


def match_paths(pairs: pd.DataFrame, known: set[str]) -> pd.DataFrame:
    """The pairs by the paths of the catalog: exactly as listed, or else without the blanks around a path.

    Args:
      pairs: as in `select_images`.
      known: paths of the catalog.
    """

    def match(path: str) -> str:
        bare = tables.without_blanks(path)
        return bare if path not in known and bare in known else path

    return pairs.assign(a=pairs["a"].map(match), b=pairs["b"].map(match))


def suggest_paths(paths: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """What a message says of images that the catalog has under a name near the listed one.

    Near names differ in case, suffix, Unicode form, backslashes, blanks, or in the folders above the image.

    Args:
      paths: that the catalog lacks.
      known: paths of the catalog.

    Returns:
      A sentence for each path that has a near one.
    """
    wanted = {key for path in paths for key in _keys(path)}
    near: dict[tuple[str, str], list[str]] = {}
    for image in known:  # once, for a catalog may be large
        for key in wanted.intersection(_keys(image)):
            near.setdefault(key, []).append(image)
    found = {}
    for path in paths:
        letters, stem, below = (near.get(key, []) for key in _keys(path))
        ends = [
            each for each in below if f"/{path}".endswith(f"/{each}") or each.endswith(f"/{path}")
        ]
        images = letters or stem or (ends if len(ends) == 1 else [])
        if images:
            found[path] = _did_you_mean(path, min(images))
    return found


def _keys(path: str) -> tuple[tuple[str, str], ...]:
    """What a path and a near one have in common: letters, letters without suffix, or the file's name."""
    letters = _same_letters(path)
    stem = os.path.splitext(letters)[0]
    return ("letters", letters), ("stem", stem), ("name", posixpath.basename(path))


def _did_you_mean(path: str, image: str) -> str:
    for form in ("NFC", "NFD"):
        if image != path and unicodedata.normalize(form, path) == image:
            return f"did you mean {image}, the same letters in the Unicode form {form}? Copy the name from the folder"
    return f"did you mean {image}? Write it as the folder has it"


def _same_letters(path: str) -> str:
    parts = unicodedata.normalize("NFC", path.replace("\\", "/")).casefold().split("/")
    return "/".join(part.strip() for part in parts)


def _require_images(
    pairs: pd.DataFrame, known: set[str], left_out: pd.DataFrame, source: str
) -> None:
    missing = pairs[~(pairs["a"].isin(known) & pairs["b"].isin(known))]
    if not len(missing):
        return
    first = missing.iloc[0]
    path = first["a"] if first["a"] not in known else first["b"]
    where = f"{source}, line {first['line']}: {path}"
    reasons = left_out.loc[left_out["path"] == path, "reason"]
    if len(reasons):
        raise UserError(
            f"{where}: {reasons.iloc[0]}; mend the image or take its pairs from the list"
        )
    near = suggest_paths([path], known).get(path, "give its path below the images folder")
    none = "no such image in an identity's folder of the images folder"
    raise UserError(f"{where}: {none}; {near}, or take its pairs from the list")


def require_agreement(pairs: pd.DataFrame, source: str, identity_of: Callable[[str], str]) -> None:
    """Checks that labels and folders say the same.

    Args:
      pairs: as in `select_images`.
      source: as in `select_images`.
      identity_of: gives the identity of an image's path.

    Raises:
      UserError: they do not.
    """
    same = pairs["a"].map(identity_of) == pairs["b"].map(identity_of)
    wrong = pairs[same != (pairs["label"] == record.GENUINE)]
    if len(wrong):
        a, b, label, line = wrong.iloc[0][["a", "b", "label", "line"]]
        said, folders = (
            ("same", "two identities") if label == record.GENUINE else ("different", "one identity")
        )
        raise UserError(
            f"{source}, line {line}: labelled {said}, but {a} and {b} lie in the folders of {folders}"
        )


def require_once(pairs: pd.DataFrame, source: str) -> None:
    """Checks that every pair is of two images and is listed once, in whichever order; arguments as in `select_images`.

    Raises:
      UserError: one is not.
    """
    ends = pd.DataFrame(np.sort(pairs[["a", "b"]].to_numpy(str), axis=1))
    if (ends[0] == ends[1]).any():
        row = pairs[(ends[0] == ends[1]).to_numpy()].iloc[0]
        raise UserError(f"{source}, line {row['line']}: a pair of {row['a']} with itself")
    repeats = ends.duplicated().to_numpy()
    if repeats.any():
        second = pairs[repeats].iloc[0]
        first = pairs[(ends == ends[repeats].iloc[0]).all(axis=1).to_numpy()].iloc[0]
        raise UserError(
            f"{source}, line {second['line']}: the pair of line {first['line']} again: take one of them out"
        )
