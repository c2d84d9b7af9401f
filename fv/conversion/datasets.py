"""Data sources: which images there are, and whose they are.

A data source is a function that returns a `Catalog`; a new one belongs here. `scan_folder` lists a
folder that holds one folder of images per identity, and opens no image.
"""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from fv import files
from fv.conversion import identities, passed_over
from fv.errors import UserError

SUFFIXES = tuple(".jpg .jpeg .jpe .jfif .png .pgm .ppm .pnm .bmp .webp .tif .tiff .gif".split())

_IMAGE, _PASSED_OVER = "", None  # verdicts on a file; any other is the reason why it is unusable
_LINK = "a symbolic link"  # begins every reason against a link
_COPY = (
    "copy the images with cp -rL FROM TO, which copies what links point to, and give --images=TO"
)

Entry = tuple[str, str | None]  # a path relative to the images folder, and the verdict on it


class Catalog(NamedTuple):
    """What a data source holds. Every file is in exactly one of the three tables.

    Attributes:
      images: columns `path` (relative to the images folder, with '/') and `identity` (categorical),
        sorted by path.
      unusable: files that are named like an image and cannot be one, and links to folders; columns
        `path` and `reason`, sorted by path.
      passed_over: the other files by suffix, from `passed_over.count`.
      naming: finds the identity in a path.
    """

    images: pd.DataFrame
    unusable: pd.DataFrame
    passed_over: pd.DataFrame
    naming: identities.Naming


def scan_folder(root: str, identity_level: int = 1, merge_names: bool = False) -> Catalog:
    """Lists the images below a folder. Links to folders are not followed.

    Args:
      root: the images folder.
      identity_level: which folder of an image's path names its identity, from 1. Deeper folders
        belong to that identity.
      merge_names: take folders for one identity whose names are equal after `identities.normalise`.

    Raises:
      UserError: no such folder.
    """
    if not files.is_folder(root):
        raise UserError(
            f"--images={root} is not a folder: "
            "give the folder that holds one folder of images per person"
        )
    paths: list[str] = []
    unusable: list[tuple[str, str]] = []

    def sort_entries(entries: Iterable[Entry]) -> Iterator[str]:
        """Fills both lists, and yields what is passed over: there may be millions of such files."""
        for path, verdict in entries:
            if verdict is _PASSED_OVER:
                yield path
            elif verdict != _IMAGE:
                unusable.append((path, verdict))
            elif path.count("/") < identity_level:
                where = f"where --identity_level={identity_level} looks for people"
                unusable.append((path, f"not in a folder of level {identity_level}, {where}"))
            else:
                paths.append(path)

    if files.is_remote(root):
        others = passed_over.count(root, sort_entries(_walk_remote(root)))
    else:
        root = os.path.realpath(root)
        others = passed_over.count(root, sort_entries(_walk(root)))
    paths.sort()
    naming = identities.Naming(identity_level)
    if merge_names:
        joined = identities.join_names({naming.identity_of(path) for path in paths})
        naming = identities.Naming(identity_level, joined)
    return Catalog(
        pd.DataFrame({"path": pd.Series(paths, dtype=object), "identity": _name(paths, naming)}),
        pd.DataFrame(sorted(unusable), columns=["path", "reason"], dtype=object),
        others,
        naming,
    )


def require_identities(
    images: pd.DataFrame,
    left_out: pd.DataFrame,
    root: str,
    others: pd.DataFrame | None = None,
    level: int = 1,
) -> None:
    """Checks that there are images of two identities, so that pairs can be made.

    Args:
      images: as in `Catalog`.
      left_out: files that are not used, with columns `path` and `reason`, for the message.
      root: the images folder, for the message.
      others: as `Catalog.passed_over`, for the message.
      level: which folder names the identity.

    Raises:
      UserError: no image, or images of one identity only. The message names likely causes.
    """
    names = images["identity"].unique()
    if len(names) >= 2:
        return
    held = "no image in any identity's folder"
    if len(names):
        held = f"images of one identity only ('{names[0]}')"
    remedy = "give a folder with a folder of images for each of two people or more"
    parts = [f"--images={root} holds {held}: {remedy}"]
    deeper = identities.suggest_level(images, level)
    if deeper:
        flag = f"--identity_level={deeper}"
        parts.append(
            f"its images lie deeper: give {flag} if the folders of level {deeper} are the people"
        )
    if len(left_out):
        path, reason = left_out[["path", "reason"]].astype(str).iloc[0]
        parts.append(f"{len(left_out):,} left out, the first: {path}: {reason}")
        links = int(left_out["reason"].astype(str).str.startswith(_LINK).sum())
        if links and not reason.startswith(_LINK):
            parts.append(f"{links:,} of them are symbolic links: {_COPY}")
    if others is not None and len(others):
        parts += [passed_over.summarise(others), *passed_over.advise(others)]
    raise UserError("; ".join(parts))


def describe_unread(paths: Iterable[str]) -> pd.DataFrame:
    """The paths that have none of `SUFFIXES`, as in `Catalog.unusable`."""
    rows = []
    for path in dict.fromkeys(paths):
        if not _is_image_name(path):
            suffix = os.path.splitext(path)[1]
            named = f"'{suffix}' is not the suffix" if suffix else "it has no suffix"
            advice = "convert the file to JPEG or PNG, or rename it if it is one"
            rows.append((path, f"{named} of an image that fv reads: {advice}"))
    return pd.DataFrame(rows, columns=["path", "reason"], dtype=object)


def _name(paths: list[str], naming: identities.Naming) -> pd.Categorical:
    """The identity of each path. Codes take less memory than a string for each path."""
    names = sorted({naming.identity_of(path) for path in paths})
    codes = {name: code for code, name in enumerate(names)}
    found = np.fromiter((codes[naming.identity_of(path)] for path in paths), np.int32, len(paths))
    return pd.Categorical.from_codes(found, pd.Index(names, dtype=object))


def _walk(root: str, folder: str = "", inherited: str | None = _IMAGE) -> Iterator[Entry]:
    """Yields every file below `folder` with the verdict on it.

    Args:
      root: the images folder, without links in its own path.
      folder: relative to `root`.
      inherited: the verdict on everything in `folder`; `_IMAGE` where each entry gets its own.
    """
    try:
        entries = os.scandir(os.path.join(root, folder))
    except PermissionError:
        if inherited is not _PASSED_OVER:
            raise
        yield folder, _PASSED_OVER  # another user's hidden folder, such as a trash folder
        return
    with entries:
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            verdict = _PASSED_OVER if entry.name.startswith(".") else inherited
            if entry.is_dir(follow_symlinks=False):
                if verdict == _IMAGE and folder and _is_image_name(path):
                    yield passed_over.printable(path), "a folder with an image's name"
                    verdict = "in a folder with an image's name: rename the folder"
                yield from _walk(root, path, verdict)
                continue
            if verdict == _IMAGE:
                verdict = _check_entry(root, path, entry)
            # What is passed over keeps its bytes, because its first bytes are read.
            yield path if verdict is _PASSED_OVER else passed_over.printable(path), verdict


def _check_entry(root: str, path: str, entry: os.DirEntry) -> str | None:
    """The verdict on an entry that is no folder, without opening it."""
    if entry.is_symlink():
        if not (_is_image_name(path) or os.path.isdir(entry.path)):
            return _PASSED_OVER
        if not os.path.exists(entry.path):
            return f"{_LINK} to nothing: remove it, or restore what it points to"
        if not os.path.realpath(entry.path).startswith(root + os.sep):
            return f"{_LINK} that leaves the images folder: {_COPY}"
        if entry.is_dir():
            return f"{_LINK} to a folder: {_COPY}"
    elif not _is_image_name(path):
        return _PASSED_OVER
    if not entry.is_file():
        return "not a regular file"
    if "/" not in path:
        return "not in an identity's folder"
    return _IMAGE if path == passed_over.printable(path) else "its name is not UTF-8"


def _walk_remote(root: str, folder: str = "", hidden: bool = False) -> Iterator[Entry]:
    """As `_walk`, behind a scheme: no links, and what has an image's name counts as a file."""
    for name in files.names(os.path.join(root, folder)):
        path = f"{folder}/{name}" if folder else name
        below = hidden or name.startswith(".")
        is_image = _is_image_name(path)  # asking whether it is a folder would cost a request
        if name.endswith("/") or (not is_image and files.is_folder(os.path.join(root, path))):
            yield from _walk_remote(root, path.rstrip("/"), below)
        elif is_image and not below:
            yield path, _IMAGE if "/" in path else "not in an identity's folder"
        else:
            yield path, _PASSED_OVER


def _is_image_name(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)
