"""Pairs that a file lists: all converted as they stand, or a clear refusal, for a protocol must not change silently."""

import os
import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from fv import record, tables
from fv.errors import UserError


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


def restrict(images: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The images of the catalog that the pairs name; all of them where they name none.

    A list names none where the people are at another level of folders.
    """
    named = images["path"].isin(pd.concat([pairs["a"], pairs["b"]]))
    return images[named] if named.any() else images


def to_indices(
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


def suggest(paths: Sequence[str], known: Iterable[str]) -> dict[str, str]:
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
    near = suggest([path], known).get(path, "give its path below the images folder")
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
