"""Pairs that a file lists: all converted as they stand, or a clear refusal, for a protocol must not change silently."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from fv import record
from fv.errors import UserError


def select_images(pairs: pd.DataFrame, images: pd.DataFrame, left_out: pd.DataFrame, source: str) -> pd.DataFrame:
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
    _require_images(pairs, set(images["path"]), left_out, source)
    require_agreement(pairs, source, dict(zip(images["path"], images["identity"], strict=True)).__getitem__)
    require_once(pairs, source)
    used = images[images["path"].isin(pd.concat([pairs["a"], pairs["b"]]))].reset_index(drop=True)
    return used.assign(identity=used["identity"].cat.remove_unused_categories())


def restrict(images: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The images of the catalog that the pairs name; all of them where they name none.

    A list names none where the people are at another level of folders.
    """
    named = images["path"].isin(pd.concat([pairs["a"], pairs["b"]]))
    return images[named] if named.any() else images


def to_indices(pairs: pd.DataFrame, images: pd.DataFrame, left_out: pd.DataFrame, source: str) -> pd.DataFrame:
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
    _require_images(pairs, set(images["path"]), left_out, source)
    index = pd.Series(images.index, images["path"])
    ends = {column: index[pairs[column]].to_numpy(np.int64) for column in ("a", "b")}
    return pd.DataFrame({**ends, "label": pairs["label"].to_numpy(np.int64)})


def _require_images(pairs: pd.DataFrame, known: set[str], left_out: pd.DataFrame, source: str) -> None:
    for column in ("a", "b"):
        missing = pairs[~pairs[column].isin(known)]
        if len(missing):
            path, line = missing.iloc[0][[column, "line"]]
            reasons = left_out.loc[left_out["path"] == path, "reason"]
            reason = reasons.iloc[0] if len(reasons) else "no such image in an identity's folder of the images folder"
            raise UserError(f"{source}, line {line}: {path}: {reason}; mend the image or take its pairs from the list")


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
        said, folders = ("same", "two identities") if label == record.GENUINE else ("different", "one identity")
        raise UserError(f"{source}, line {line}: labelled {said}, but {a} and {b} lie in the folders of {folders}")


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
        raise UserError(f"{source}, line {second['line']}: the pair of line {first['line']} again: take one of them out")
