"""Reads pairs from a CSV or an LFW pairs file, and matches them with the images of a folder.

A list of pairs is a protocol: it is converted as it is, or refused with the line that is wrong.
In every function, `pairs` is a table with columns `a` and `b` (paths), `label` and `line` (the
number of the line in the list, from 1), and `source` is the path of the list.
"""

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

COLUMNS = ("image_a", "image_b", "label")  # of a CSV

# str.splitlines would also split at characters that names may hold.
_LINE_END = re.compile(r"\r\n?|\n")
_NUMBER = re.compile(r"\s*[0-9]{1,9}\s*")


def read_csv_pairs(source: str, root: str | None = None) -> pd.DataFrame:
    """Reads the pairs of a CSV with the columns of `COLUMNS`; other columns are ignored.

    Args:
      source: the CSV, with paths relative to the images folder, and labels of `tables.LABELS`.
      root: the images folder, if absolute paths below it are allowed too.

    Returns:
      The pairs, with normal relative paths and int64 labels.

    Raises:
      UserError: a column is missing, there is no pair, or a line cannot be used.
      OSError: the file cannot be read.
    """
    rows = tables.read(source, COLUMNS)
    labels = rows.labels("label").astype(np.int64)
    a, b = (
        [tables.normal_path(text, rows.place(row), root) for row, text in enumerate(rows[name])]
        for name in COLUMNS[:2]
    )
    pairs = pd.DataFrame({"a": a, "b": b, "label": labels, "line": rows.lines})
    return pairs.astype({"a": object, "b": object})


def read_lfw_pairs(source: str, images: pd.DataFrame, level: int = 1) -> pd.DataFrame:
    """Reads the pairs of a file in the format of Labeled Faces in the Wild.

    The first line is `N` (View 1) or `folds N` (View 2). For each fold, N genuine lines `name i j`
    and N impostor lines `name1 i name2 j` follow, tab-separated. Image 1 of a name is
    NAME/NAME_0001.jpg.

    Source: http://vis-www.cs.umass.edu/lfw/README.txt

    Args:
      source: the pairs file.
      images: the images of the folder, with column `path`, which have the suffixes of the files.
      level: level of the folder that names the person.

    Returns:
      The pairs; the path of an image that the folder lacks ends in .jpg.

    Raises:
      UserError: a line is out of format, or fits several images.
      OSError: the file cannot be read.
    """
    lines = _read_lines(source)
    folds, count = _parse_header(lines, source)
    if len(lines) - 1 != 2 * folds * count:
        raise UserError(
            f"{source} has {len(lines) - 1} pairs where its first line promises "
            f"{2 * folds * count}: it was cut short or changed"
        )
    by_stem: dict[str, list[str]] = {}
    for path in images["path"]:
        stem = os.path.splitext(path.split("/", level - 1)[-1])[0]
        by_stem.setdefault(stem, []).append(path)
    rows = [_parse_line(line, number, source) for number, line in enumerate(lines[1:], start=2)]
    for index, (_, _, label, number) in enumerate(rows):
        if label != (record.GENUINE if index // count % 2 == 0 else record.IMPOSTOR):
            raise UserError(
                f"{source}, line {number}: genuine and impostor pairs are not in runs of {count} "
                "as line 1 says"
            )
    found = [
        (*(_find_image(stem, by_stem, source, number) for stem in (a, b)), label, number)
        for a, b, label, number in rows
    ]
    return pd.DataFrame(found, columns=["a", "b", "label", "line"])


def count_folds(source: str) -> int:
    """Returns the number of folds of equal size in an LFW pairs file.

    Raises:
      UserError: the first line is out of format.
    """
    return _parse_header(_read_lines(source), source)[0]


def match_paths(pairs: pd.DataFrame, known: set[str]) -> pd.DataFrame:
    """Strips blanks around paths that are in `known` only without them."""

    def match(path: str) -> str:
        bare = tables.without_blanks(path)
        return bare if path not in known and bare in known else path

    return pairs.assign(a=pairs["a"].map(match), b=pairs["b"].map(match))


def restrict_to_pairs(images: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Returns the images that pairs name, or all images if the pairs name none.

    Pairs name none where the people are at another level of folders.
    """
    named = images["path"].isin(pd.concat([pairs["a"], pairs["b"]]))
    return images[named] if named.any() else images


def select_images(
    pairs: pd.DataFrame, images: pd.DataFrame, left_out: pd.DataFrame, source: str
) -> pd.DataFrame:
    """Checks the pairs and returns the images that they name, so that no other image is decoded.

    Args:
      images: the images of the folder, with columns `path` and `identity`.
      left_out: files of the folder that cannot be used, with columns `path` and `reason`.

    Returns:
      Rows of `images`, numbered from 0.

    Raises:
      UserError: an image is not in the folder, a pair is of one image or listed twice, or a label
        contradicts the folders.
    """
    _require_images(pairs, set(images["path"]), left_out, source)
    identity_of = dict(zip(images["path"], images["identity"], strict=True))
    require_agreement(pairs, source, identity_of.__getitem__)
    require_once(pairs, source)
    used = restrict_to_pairs(images, pairs).reset_index(drop=True)
    return used.assign(identity=used["identity"].cat.remove_unused_categories())


def pairs_to_indices(
    pairs: pd.DataFrame, images: pd.DataFrame, left_out: pd.DataFrame, source: str
) -> pd.DataFrame:
    """Replaces paths by the indices of sound images.

    Args:
      images: the sound images, with column `path`.
      left_out: the images that cannot be used, with columns `path` and `reason`.

    Returns:
      A table with columns `a`, `b` and `label`, all int64.

    Raises:
      UserError: an image of a pair cannot be used.
    """
    _require_images(pairs, set(images["path"]), left_out, source)
    index = pd.Series(images.index, images["path"])
    ends = {column: index[pairs[column]].to_numpy(np.int64) for column in ("a", "b")}
    return pd.DataFrame({**ends, "label": pairs["label"].to_numpy(np.int64)})


def require_agreement(pairs: pd.DataFrame, source: str, identity_of: Callable[[str], str]) -> None:
    """Checks that the labels agree with the folders.

    Args:
      identity_of: returns the identity of an image's path.

    Raises:
      UserError: a genuine pair is of two identities, or an impostor pair of one.
    """
    same = pairs["a"].map(identity_of) == pairs["b"].map(identity_of)
    wrong = pairs[same != (pairs["label"] == record.GENUINE)]
    if len(wrong):
        a, b, label, line = wrong.iloc[0][["a", "b", "label", "line"]]
        labelled, folders = "different", "one identity"
        if label == record.GENUINE:
            labelled, folders = "same", "two identities"
        raise UserError(
            f"{source}, line {line}: labelled {labelled}, but {a} and {b} lie in the folders of "
            f"{folders}"
        )


def require_once(pairs: pd.DataFrame, source: str) -> None:
    """Checks that every pair is of two images and is listed once, in either order.

    Raises:
      UserError: a pair is not.
    """
    ends = pd.DataFrame(np.sort(pairs[["a", "b"]].to_numpy(str), axis=1))
    alone = (ends[0] == ends[1]).to_numpy()
    if alone.any():
        row = pairs[alone].iloc[0]
        raise UserError(f"{source}, line {row['line']}: a pair of {row['a']} with itself")
    repeats = ends.duplicated().to_numpy()
    if repeats.any():
        second = pairs[repeats].iloc[0]
        first = pairs[(ends == ends[repeats].iloc[0]).all(axis=1).to_numpy()].iloc[0]
        raise UserError(
            f"{source}, line {second['line']}: the pair of line {first['line']} again: "
            "take one of them out"
        )


def suggest_paths(paths: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """Suggests an image for each path that is nearly the path of one.

    Near paths differ in case, suffix, Unicode form, backslashes or blanks, or in the folders above
    the image.

    Args:
      paths: paths that name no image.
      known: paths of the images.

    Returns:
      A sentence for each path that has a near one.
    """
    wanted = {key for path in paths for key in _near_keys(path)}
    near: dict[tuple[str, str], list[str]] = {}
    for image in known:  # in one pass, since there may be millions
        for key in wanted.intersection(_near_keys(image)):
            near.setdefault(key, []).append(image)
    found = {}
    for path in paths:
        letters, stem, same_name = (near.get(key, []) for key in _near_keys(path))
        below = [
            image
            for image in same_name
            if f"/{path}".endswith(f"/{image}") or image.endswith(f"/{path}")
        ]
        images = letters or stem or (below if len(below) == 1 else [])
        if images:
            found[path] = _did_you_mean(path, min(images))
    return found


def _read_lines(source: str) -> list[str]:
    try:
        text = files.read_bytes(source).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not a text file in UTF-8: give an LFW pairs file") from error
    return _LINE_END.split(text.rstrip())


def _parse_header(lines: list[str], source: str) -> tuple[int, int]:
    """Returns the number of folds, and of the pairs of each label in a fold."""
    numbers = [int(word) if _NUMBER.fullmatch(word) else 0 for word in lines[0].split()]
    if not 1 <= len(numbers) <= 2 or not all(numbers):
        raise UserError(
            f"{source}, line 1: '{lines[0][:40]}' is not the number of pairs (View 1) or of folds "
            "and pairs (View 2)"
        )
    return (1, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def _parse_line(line: str, number: int, source: str) -> tuple[str, str, int, int]:
    """Returns the paths of the two images without suffix, the label, and the number of the line."""
    fields, label = line.split("\t"), record.IMPOSTOR
    if len(fields) == 3:
        fields, label = [fields[0], fields[1], fields[0], fields[2]], record.GENUINE
    if len(fields) != 4 or not all(map(_NUMBER.fullmatch, fields[1::2])):
        raise UserError(
            f"{source}, line {number}: '{line[:60]}' is neither 'name i j' nor "
            "'name1 i name2 j', tab-separated"
        )
    a, b = (f"{name}/{name}_{int(image):04d}" for name, image in (fields[:2], fields[2:]))
    return a, b, label, number


def _find_image(stem: str, by_stem: dict[str, list[str]], source: str, number: int) -> str:
    images = by_stem.get(stem, [f"{stem}{datasets.SUFFIXES[0]}"])
    if len(images) > 1:
        raise UserError(
            f"{source}, line {number}: {stem} may be {' or '.join(images)}: take all but one of "
            "them out of the images folder, or list the pairs with --pairs_csv, which names files"
        )
    return images[0]


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
    raise UserError(
        f"{where}: no such image in an identity's folder of the images folder; {near}, or take "
        "its pairs from the list"
    )


def _near_keys(path: str) -> tuple[tuple[str, str], ...]:
    """What a path shares with a near one: its letters, these without suffix, or its file name."""
    parts = unicodedata.normalize("NFC", path.replace("\\", "/")).casefold().split("/")
    letters = "/".join(part.strip() for part in parts)
    stem = os.path.splitext(letters)[0]
    return ("letters", letters), ("stem", stem), ("name", posixpath.basename(path))


def _did_you_mean(path: str, image: str) -> str:
    for form in ("NFC", "NFD"):
        if image != path and unicodedata.normalize(form, path) == image:
            return (
                f"did you mean {image}, the same letters in the Unicode form {form}? "
                "Copy the name from the folder"
            )
    return f"did you mean {image}? Write it as the folder has it"
