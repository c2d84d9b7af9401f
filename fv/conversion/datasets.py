"""The catalog: which image files there are, and whose they are, from the folders' names alone."""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from fv import files
from fv.conversion import identities, passed_over
from fv.errors import UserError

SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".pgm",
    ".ppm",
    ".pnm",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".gif",
)

_LINK = "a symbolic link"  # how the reasons against links start
_COPY = (
    "copy the images with cp -rL FROM TO, which copies what links point to, and give --images=TO"
)
_PASSED_OVER = None  # the verdict on a file that is counted by its suffix only


class Catalog(NamedTuple):
    """What a folder holds; every file in it is in one of the three tables.

    Attributes:
      images: columns `path` (relative to the folder, with '/') and `identity` (categorical), sorted by
        path.
      left_out: entries that have an image's suffix and cannot be taken, and links to folders; columns
        `path` and `reason`, sorted by path.
      passed_over: the other files by suffix, from `passed_over.count`.
      naming: how a path tells the identity.
    """

    images: pd.DataFrame
    left_out: pd.DataFrame
    passed_over: pd.DataFrame
    naming: identities.Naming


def scan_folder(root: str, identity_level: int = 1, merge_names: bool = False) -> Catalog:
    """Lists what is below `root`, one folder per identity; folders nested in an identity's folder belong to it.

    Files without an image's suffix (any case) and hidden ones are passed over; what has the suffix and cannot be taken is
    left out with its reason. Links to folders are not followed.

    Args:
      root: the images folder.
      identity_level: which folder of an image's path names its identity, from 1.
      merge_names: take folders for one identity whose names are equal after `identities.normalise`.

    Raises:
      UserError: no such folder.
    """
    if not files.is_folder(root):
        raise UserError(
            f"--images={root} is not a folder: give the folder that holds one folder of images per person"
        )
    top = root if files.is_remote(root) else os.path.realpath(root)
    entries = _walk_remote(root, "") if files.is_remote(root) else _walk(top, "")
    paths: list[str] = []
    odd: list[tuple[str, str]] = []
    others = passed_over.count(top, _set_apart(entries, identity_level, paths, odd))
    paths.sort()
    naming = identities.Naming(identity_level)
    if merge_names:
        naming = identities.Naming(
            identity_level, identities.join({naming.identity_of(path) for path in paths})
        )
    images = pd.DataFrame(
        {"path": pd.Series(paths, dtype=object), "identity": _identities(paths, naming)}
    )
    left_out = pd.DataFrame(sorted(odd), columns=["path", "reason"], dtype=object)
    return Catalog(images, left_out, others, naming)


def require_identities(
    images: pd.DataFrame,
    left_out: pd.DataFrame,
    root: str,
    others: pd.DataFrame | None = None,
    level: int = 1,
) -> None:
    """Checks that pairs can be made at all.

    Args:
      images: as in `Catalog`.
      left_out: as in `Catalog`.
      root: the images folder, for the message.
      others: files that were passed over, as in `Catalog`.
      level: which folder names the identity.

    Raises:
      UserError: no image, or images of one identity only.
    """
    names = images["identity"].unique()
    if len(names) >= 2:
        return
    held = (
        f"images of one identity only ('{names[0]}')"
        if len(names)
        else "no image in any identity's folder"
    )
    remedy = "give a folder with a folder of images for each of two people or more"
    raise UserError(
        "; ".join(
            [f"--images={root} holds {held}: {remedy}", *_explain(images, left_out, others, level)]
        )
    )


def describe_unread(paths: Iterable[str]) -> pd.DataFrame:
    """Those of the paths whose suffix is none of `SUFFIXES`, as in `Catalog.left_out`."""
    rows = [
        (path, _reason_unread(path)) for path in dict.fromkeys(paths) if not _is_image_name(path)
    ]
    return pd.DataFrame(rows, columns=["path", "reason"], dtype=object)


def _reason_unread(path: str) -> str:
    suffix = os.path.splitext(path)[1]
    named = f"'{suffix}' is not the suffix" if suffix else "it has no suffix"
    return f"{named} of an image that fv reads: convert the file to JPEG or PNG, or rename it if it is one"


def _explain(
    images: pd.DataFrame, left_out: pd.DataFrame, others: pd.DataFrame | None, level: int
) -> Iterator[str]:
    """Yields what may be the cause of too few identities, and what to do about each."""
    deeper = identities.suggest_level(images, level)
    if deeper:
        yield f"its images lie deeper: give --identity_level={deeper} if the folders of level {deeper} are the people"
    if len(left_out):
        first = left_out.iloc[0]
        yield f"{len(left_out):,} left out, the first: {first['path']}: {first['reason']}"
        links = int(left_out["reason"].astype(str).str.startswith(_LINK).sum())
        if links and not str(first["reason"]).startswith(_LINK):
            yield f"{links:,} of them are symbolic links: {_COPY}"
    if others is not None and len(others):
        yield passed_over.summarise(others)
        yield from passed_over.advise(others)


def _set_apart(
    entries: Iterable[tuple[str, str | None]],
    level: int,
    paths: list[str],
    odd: list[tuple[str, str]],
) -> Iterator[str]:
    """Adds images to `paths` and what is left out to `odd`, and yields what is passed over."""
    for path, reason in entries:
        if reason is _PASSED_OVER:
            yield path
        elif reason:
            odd.append((path, reason))
        elif path.count("/") < level:
            odd.append(
                (
                    path,
                    f"not in a folder of level {level}, where --identity_level={level} looks for people",
                )
            )
        else:
            paths.append(path)


def _identities(paths: list[str], naming: identities.Naming) -> pd.Categorical:
    """The identity of each path, without a string for each."""
    names = sorted({naming.identity_of(path) for path in paths})
    numbers = {name: number for number, name in enumerate(names)}
    codes = np.fromiter((numbers[naming.identity_of(path)] for path in paths), np.int32, len(paths))
    return pd.Categorical.from_codes(codes, pd.Index(names, dtype=object))


def _walk(root: str, folder: str, above: str | None = "") -> Iterator[tuple[str, str | None]]:
    """Yields the relative path of every entry below `folder`, with the verdict on it.

    The verdict is '' for an image, `_PASSED_OVER`, or the reason to leave it out; `above` is the one on
    everything below `folder`, '' where each entry is judged by itself.
    """
    try:
        entries = os.scandir(os.path.join(root, folder))
    except PermissionError:
        if above is not _PASSED_OVER:
            raise
        yield folder, above  # a hidden folder of another user's, such as a trash folder
        return
    with entries:
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            verdict = _PASSED_OVER if entry.name.startswith(".") else above
            if entry.is_dir(follow_symlinks=False):
                if verdict == "" and folder and _is_image_name(path):
                    verdict = "a folder with an image's name"
                    yield passed_over.printable(path), verdict
                    verdict = "in a folder with an image's name: rename the folder"
                yield from _walk(root, path, verdict)
            elif verdict is _PASSED_OVER:
                yield path, verdict
            elif verdict:
                yield passed_over.printable(path), verdict
            elif _is_image_name(path) or (entry.is_symlink() and os.path.isdir(entry.path)):
                yield passed_over.printable(path), _reason_against(root, path, entry)
            else:
                yield path, _PASSED_OVER


def _walk_remote(root: str, folder: str, hidden: bool = False) -> Iterator[tuple[str, str | None]]:
    """As `_walk`, behind a scheme: there are no links, and what has an image's name is taken for a file without a look."""
    for name in files.names(os.path.join(root, folder)):
        path = f"{folder}/{name}" if folder else name
        below = hidden or name.startswith(".")
        if name.endswith("/") or not (
            _is_image_name(path) or not files.is_folder(os.path.join(root, path))
        ):
            yield from _walk_remote(root, path.rstrip("/"), below)
        elif _is_image_name(path) and not below:
            yield path, "" if "/" in path else "not in an identity's folder"
        else:
            yield path, _PASSED_OVER


def _reason_against(root: str, path: str, entry: os.DirEntry) -> str:
    """Why the entry cannot be taken as an image, judged without opening it; '' if it can."""
    if entry.is_symlink():
        if not os.path.exists(entry.path):
            return f"{_LINK} to nothing: remove it, or restore what it points to"
        if not os.path.realpath(entry.path).startswith(root + os.sep):
            return f"{_LINK} that leaves the images folder: {_COPY}"
        if entry.is_dir():
            return f"{_LINK} to a folder: {_COPY}"
    if not entry.is_file():
        return "not a regular file"
    if "/" not in path:
        return "not in an identity's folder"
    return "" if path == passed_over.printable(path) else "its name is not UTF-8"


def _is_image_name(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)
