"""The catalog of a data source: which images there are, where their bytes are, and whose they are.

`fv.conversion.sources` finds the data source that --images names. This module lists folders that
hold one folder of images per identity, and opens no image.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from fv import files
from fv.conversion import identities, passed_over
from fv.conversion.packed_strings import PackedStrings
from fv.errors import UserError

SUFFIXES = tuple(".jpg .jpeg .jpe .jfif .png .pgm .ppm .pnm .bmp .webp .tif .tiff .gif".split())
LABEL_NAMES = tuple("label identity person person_id class subject name cls id".split())
"""Columns and fields that hold the identity where no flag names one; the first wins."""

_IMAGE, _PASSED_OVER = "", None  # verdicts on a file; any other is the reason why it is unusable
_LINK = "a symbolic link"  # begins every reason against a link
_COPY = (
    "copy the images with cp -rL FROM TO, which copies what links point to, and give --images=TO"
)
_ANY_LEVEL = 0

Names: TypeAlias = "Sequence[str] | np.ndarray | pd.Categorical"  # of each image's identity
Entry = tuple[str, str | None]  # a path relative to the images folder, and the verdict on it


class Place(NamedTuple):
    """Where the bytes of an image are.

    Attributes:
      path: names the image; relative to the images folder.
      file: the file that holds it among others; '' where `path` is a file of its own.
      offset: where its bytes or its record begin in `file`; of Parquet, its row.
      span: bytes to read there.
      identity: its person.
    """

    path: str
    file: str = ""
    offset: int = 0
    span: int = 0
    identity: str = ""


class Catalog(NamedTuple):
    """What a data source holds. Every file is in exactly one of the three tables.

    Attributes:
      images: columns `path` (relative to `root`, with '/'; unique) and `identity` (categorical), in
        the order of the source. Where files hold many images, also the columns `file`
        (categorical), `place` and `span`: see `Place`.
      unusable: files that are named like an image and cannot be one, links to folders, and images
        without an identity; columns `path` and `reason`.
      passed_over: the other files by suffix, from `passed_over.count`.
      naming: finds the identity in a path; None where paths do not name it.
      root: the images folder, or the first of the files that hold many images.
    """

    images: pd.DataFrame
    unusable: pd.DataFrame
    passed_over: pd.DataFrame
    naming: identities.Naming | None = None
    root: str = ""


def scan_folders(
    folders: Sequence[str], identity_level: int = 1, merge_names: bool = False
) -> Catalog:
    """Lists the images below folders. Links to folders are not followed.

    Args:
      folders: images folders; of several, paths begin below the folder that holds all of them.
      identity_level: which folder of an image's path names its identity, from 1. Deeper folders
        belong to that identity.
      merge_names: take folders for one identity whose names are equal after `identities.normalise`.

    Raises:
      UserError: no such folder, or one folder lies in another.
    """
    root, bases = folders[0], [""]
    if len(folders) > 1:
        real = os.path.realpath
        ends = [f.rstrip("/") if files.is_remote(f) else real(f) for f in folders]
        root = f"{ends[0]}/"
        while not all(f"{end}/".startswith(root) for end in ends):
            root = f"{root.rstrip('/').rpartition('/')[0]}/"
        bases = [f"{end}/"[len(root) :] for end in ends]
        for folder, base in zip(folders, bases, strict=True):
            if sum(other.startswith(base) for other in bases) > 1:
                raise UserError(f"--images: {folder} holds another of the folders: give one")
    paths: list[str] = []
    unusable: list[tuple[str, str]] = []
    others = []
    for folder, base in zip(folders, bases, strict=True):
        found, bad, table = list_files(folder, identity_level)
        paths += [base + path for path in found]
        unusable += [(base + path, reason) for path, reason in bad]
        others.append(table.assign(example=base + table["example"]))
    naming = identities.Naming(identity_level, bases=tuple(bases))
    if merge_names:
        joined = identities.join_names({naming.identity_of(path) for path in paths})
        naming = identities.Naming(identity_level, joined, tuple(bases))
    return Catalog(
        list_images(paths, [naming.identity_of(path) for path in paths]),
        list_unusable(unusable),
        passed_over.add(others),
        naming,
        root,
    )


def list_files(
    root: str, identity_level: int = _ANY_LEVEL
) -> tuple[list[str], list[tuple[str, str]], pd.DataFrame]:
    """Lists the files below a folder; an image has to lie `identity_level` folders deep.

    Returns:
      Sorted images, unusable files with the reason, and the others as `passed_over.count`.

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
            elif path.count("/") >= identity_level:
                paths.append(path)
            elif "/" not in path:
                unusable.append((path, "not in an identity's folder"))
            else:
                where = f"where --identity_level={identity_level} looks for people"
                unusable.append((path, f"not in a folder of level {identity_level}, {where}"))

    if files.is_remote(root):
        others = passed_over.count(root, sort_entries(_walk_remote(root)))
    else:
        root = os.path.realpath(root)
        others = passed_over.count(root, sort_entries(_walk(root)))
    return sorted(paths), sorted(unusable), others


def holds_people(folder: str) -> bool:
    """Whether a local folder holds a folder with an image; stops at the first."""
    entries = _walk(os.path.realpath(folder))
    return any(verdict == _IMAGE and "/" in path for path, verdict in entries)


def list_images(
    paths: Sequence[str] | PackedStrings, names: Names, merge_names: bool = False
) -> pd.DataFrame:
    """Makes the table of `Catalog.images` from paths and names of identities."""
    if merge_names:
        joined = identities.join_names(set(names))
        names = [joined.get(name, name) for name in names]
    if not isinstance(names, pd.Categorical):
        # Codes take less memory than a string for each path.
        names = pd.Categorical(pd.Index(names, dtype=object))
    held = paths if isinstance(paths, PackedStrings) else pd.Series(paths, dtype=object)
    return pd.DataFrame({"path": held, "identity": names})


def list_held_images(
    paths: Iterable[str],
    names: Names,
    merge_names: bool,
    holders: Sequence[str],
    held_in: tuple[Sequence[int] | np.ndarray, ...],
    unusable: Iterable[tuple[str, str]],
) -> Catalog:
    """Makes the catalog of `holders`, files that hold many images; see `Place`.

    `held_in` has the number of each image's holder, its place and its span; `unusable` has paths
    and reasons.
    """
    images = list_images(PackedStrings.pack(paths), names, merge_names)
    codes, places, spans = held_in
    file = pd.Categorical.from_codes(np.asarray(codes, np.int32), pd.Index(holders, dtype=object))
    spans = np.minimum(np.asarray(spans, np.int64), np.iinfo(np.uint32).max).astype(np.uint32)
    images = images.assign(file=file, place=np.asarray(places, np.int64), span=spans)
    return Catalog(images, list_unusable(unusable), passed_over.count("", ()), root=holders[0])


def list_unusable(found: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Makes the table of `Catalog.unusable` from paths and reasons."""
    return pd.DataFrame(sorted(found), columns=["path", "reason"], dtype=object)


def list_places(images: pd.DataFrame) -> Iterator[Place]:
    """Yields where the bytes of each image of a `Catalog.images` are."""
    if "file" not in images:
        return map(Place, images["path"])
    columns = (images[name] for name in ("path", "file", "place", "span", "identity"))
    return map(Place._make, zip(*columns, strict=True))


def require_identities(catalog: Catalog, source: str) -> None:
    """Checks that there are images of two identities, so that pairs can be made.

    Raises:
      UserError: no image, or images of one identity only; the message names likely causes.
    """
    images, left_out, others = catalog.images, catalog.unusable, catalog.passed_over
    names = images["identity"].unique()
    if len(names) >= 2:
        return
    held = "no image in any identity's folder"
    if len(names):
        held = f"images of one identity only ('{names[0]}')"
    remedy = "give a folder with a folder of images for each of two people or more"
    level = catalog.naming.level if catalog.naming else _ANY_LEVEL
    if not level:
        held, remedy = held.replace(" in any identity's folder", ""), "give images of two people"
    parts = [f"--images={source} holds {held}: {remedy}"]
    deeper = identities.suggest_level(images, level) if level else None
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
    if len(others):
        parts += [passed_over.summarise(others), *passed_over.advise(others)]
    raise UserError("; ".join(parts))


def describe_unread(paths: Iterable[str]) -> pd.DataFrame:
    """The paths that have none of `SUFFIXES`, as in `Catalog.unusable`."""
    rows = []
    for path in set(paths):
        if not is_image_name(path):
            suffix = os.path.splitext(path)[1]
            named = f"'{suffix}' is not the suffix" if suffix else "it has no suffix"
            advice = "convert the file to JPEG or PNG, or rename it if it is one"
            rows.append((path, f"{named} of an image that fv reads: {advice}"))
    return list_unusable(rows)


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
                if verdict == _IMAGE and folder and is_image_name(path):
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
        if not (is_image_name(path) or os.path.isdir(entry.path)):
            return _PASSED_OVER
        if not os.path.exists(entry.path):
            return f"{_LINK} to nothing: remove it, or restore what it points to"
        if not os.path.realpath(entry.path).startswith(root + os.sep):
            return f"{_LINK} that leaves the images folder: {_COPY}"
        if entry.is_dir():
            return f"{_LINK} to a folder: {_COPY}"
    elif not is_image_name(path):
        return _PASSED_OVER
    if not entry.is_file():
        return "not a regular file"
    return _IMAGE if path == passed_over.printable(path) else "its name is not UTF-8"


def _walk_remote(root: str, folder: str = "", hidden: bool = False) -> Iterator[Entry]:
    """As `_walk`, behind a scheme: no links, and what has an image's name counts as a file."""
    for name in files.names(os.path.join(root, folder)):
        path = f"{folder}/{name}" if folder else name
        below = hidden or name.startswith(".")
        is_image = is_image_name(path)  # asking whether it is a folder would cost a request
        if name.endswith("/") or (not is_image and files.is_folder(os.path.join(root, path))):
            yield from _walk_remote(root, path.rstrip("/"), below)
        elif is_image and not below:
            yield path, _IMAGE
        else:
            yield path, _PASSED_OVER


def is_image_name(path: str) -> bool:
    """Whether a path has one of `SUFFIXES`."""
    return path.lower().endswith(SUFFIXES)
