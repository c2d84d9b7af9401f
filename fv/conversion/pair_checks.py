"""Matches listed pairs with the images of a folder, and checks them.

A list of pairs is a protocol: it is used as it is, or refused with the line that is wrong. In every
function, `pairs` is a table as `fv.conversion.pair_lists` returns it, and `source` is the path of
the list.
"""

import os
import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from fv import record
from fv.errors import UserError


def place(row: pd.Series, source: str = "") -> str:
    """Where a row of a table of pairs is listed, for messages."""
    return f"{row.get('list', f'{source}, line')} {row['line']}"


def restrict_to_pairs(images: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Returns the images that pairs name; all images where people are at another level."""
    named = images["path"].isin(pd.concat([pairs["a"], pairs["b"]]))
    return images[named] if named.any() else images


def select_images(
    pairs: pd.DataFrame, images: pd.DataFrame, left_out: pd.DataFrame, source: str
) -> pd.DataFrame:
    """Checks the pairs; returns the images that they name, numbered from 0: no other is decoded.

    Args:
      images: as in `datasets.Catalog`.
      left_out: files that cannot be used, with columns `path` and `reason`.

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
    """Replaces paths by the indices of sound images; arguments as for `select_images`.

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
    """Checks that the labels agree with the identities that the paths name.

    Raises:
      UserError: a genuine pair is of two identities, or an impostor pair of one.
    """
    same = pairs["a"].map(identity_of) == pairs["b"].map(identity_of)
    wrong = pairs[same != (pairs["label"] == record.GENUINE)]
    if len(wrong):
        a, b, label = wrong.iloc[0][["a", "b", "label"]]
        labelled, folders = "different", "one identity"
        if label == record.GENUINE:
            labelled, folders = "same", "two identities"
        raise UserError(
            f"{place(wrong.iloc[0], source)}: labelled {labelled}, but {a} and {b} lie in the "
            f"folders of {folders}"
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
        raise UserError(f"{place(row, source)}: a pair of {row['a']} with itself")
    repeats = ends.duplicated().to_numpy()
    if repeats.any():
        second = pairs[repeats].iloc[0]
        first = pairs[(ends == ends[repeats].iloc[0]).all(axis=1).to_numpy()].iloc[0]
        raise UserError(
            f"{place(second, source)}: the pair of {place(first).lstrip(', ')} again: "
            "take one of them out"
        )


def suggest_paths(paths: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """Returns a sentence for each path that is nearly one of the `known` paths.

    Near paths differ in case, suffix, Unicode form, backslashes or blanks, or in the folders above
    the image.
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


def _require_images(
    pairs: pd.DataFrame, known: set[str], left_out: pd.DataFrame, source: str
) -> None:
    missing = pairs[~(pairs["a"].isin(known) & pairs["b"].isin(known))]
    if not len(missing):
        return
    first = missing.iloc[0]
    path = first["a"] if first["a"] not in known else first["b"]
    where = f"{place(first, source)}: {path}"
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
