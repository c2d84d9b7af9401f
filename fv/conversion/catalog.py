"""The catalog: which image files there are, and whose they are, from the folders' names alone."""

import os
from collections.abc import Iterator

import numpy as np
import pandas as pd

from fv import files
from fv.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".pgm", ".ppm", ".pnm", ".bmp", ".webp", ".tif", ".tiff", ".gif")


def scan(root: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lists the images below `root`, one folder per identity; folders nested in an identity's folder belong to it.

    Files without an image's suffix (any case) and hidden ones are passed over; what has the suffix and cannot be taken is
    left out with its reason.

    Args:
      root: the images folder.

    Returns:
      Two tables, each sorted by path: images with columns `path` (relative to `root`, with '/') and `identity`
      (categorical, the first folder of the path), and left-out entries with columns `path` and `reason`.

    Raises:
      UserError: no such folder.
    """
    if not files.is_folder(root):
        raise UserError(f"--images={root} is not a folder: give the folder that holds one folder of images per person")
    paths, odd = [], []
    for path, reason in _walk_remote(root, "") if files.is_remote(root) else _walk(os.path.realpath(root), ""):
        if reason:
            odd.append((path, reason))
        else:
            paths.append(path)
    paths.sort()
    images = pd.DataFrame({"path": pd.Series(paths, dtype=object), "identity": _identities(paths)})
    return images, pd.DataFrame(sorted(odd), columns=["path", "reason"], dtype=object)


def identity_of(path: str) -> str:
    """The identity of an image: the first folder of its relative path."""
    return path.partition("/")[0]


def require_identities(images: pd.DataFrame, left_out: pd.DataFrame, root: str) -> None:
    """Checks that pairs can be made at all.

    Raises:
      UserError: no image, or images of one identity only.
    """
    identities = images["identity"].unique()
    if len(identities) >= 2:
        return
    held = f"images of one identity only ('{identities[0]}')" if len(identities) else "no image in any identity's folder"
    why = ""
    if len(left_out):
        first = left_out.iloc[0]
        why = f" ({len(left_out):,} left out, the first: {first['path']}: {first['reason']})"
    raise UserError(
        f"--images={root} holds {held}{why}: give a folder with a folder of images for each of two people or more"
    )


def _identities(paths: list[str]) -> pd.Categorical:
    """The identity of each path, without a string for each."""
    names = sorted({identity_of(path) for path in paths})
    numbers = {name: number for number, name in enumerate(names)}
    codes = np.fromiter((numbers[identity_of(path)] for path in paths), np.int32, len(paths))
    return pd.Categorical.from_codes(codes, pd.Index(names, dtype=object))


def _walk(root: str, folder: str) -> Iterator[tuple[str, str]]:
    """Yields (relative path, reason to leave it out or '') of every entry below `folder` that claims to be an image."""
    with os.scandir(os.path.join(root, folder)) as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False) and not (folder and _is_image_name(path)):
                yield from _walk(root, path)
            elif _is_image_name(path) or (entry.is_symlink() and entry.is_dir()):
                yield _printable(path), _reason_against(root, path, entry)


def _walk_remote(root: str, folder: str) -> Iterator[tuple[str, str]]:
    """As `_walk`, behind a scheme: there are no links, and what has an image's name is taken for a file without a look."""
    for name in files.names(os.path.join(root, folder)):
        path = f"{folder}/{name}" if folder else name
        if name.startswith("."):
            continue
        if name.endswith("/") or not (_is_image_name(path) or not files.is_folder(os.path.join(root, path))):
            yield from _walk_remote(root, path.rstrip("/"))
        elif _is_image_name(path):
            yield path, "" if "/" in path else "not in an identity's folder"


def _reason_against(root: str, path: str, entry: os.DirEntry) -> str:
    """Why the entry cannot be taken as an image, judged without opening it; '' if it can."""
    if entry.is_symlink() and not os.path.realpath(entry.path).startswith(root + os.sep):
        return "a symbolic link that leaves the images folder"
    if entry.is_dir():
        return "a link to a folder" if entry.is_symlink() else "a folder with an image's name"
    if not entry.is_file():
        return "not a regular file"
    if "/" not in path:
        return "not in an identity's folder"
    return "" if path == _printable(path) else "its name is not UTF-8"


def _is_image_name(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def _printable(path: str) -> str:
    """The path, with bytes that are not UTF-8 written as \\xNN."""
    return os.fsencode(path).decode(errors="backslashreplace")
