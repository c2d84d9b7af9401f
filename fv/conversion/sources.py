"""What --images names: folders of people, a folder with a list of labels, or files of many images.

A list of labels, as CelebA has it, names the path of an image and its label in each line, separated
by a comma, a tab or blanks. A first line that names columns may stand before them.
"""

import csv
import errno
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence

import pandas as pd

from fv import errors, files, tables, workers
from fv.conversion import datasets, folders, identities, parquet, recordio, tar_shards
from fv.conversion.datasets import Catalog, Place
from fv.conversion.image_files import BadImage
from fv.errors import UserError

_FOLDER = ""  # a kind of path; the others are suffixes
_SUFFIXES = (recordio.SUFFIX, tar_shards.SUFFIX, parquet.SUFFIX)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_FILES = 1_000_000  # in a range
_PATHS = tuple("path image file file_name filename image_id image_path img".split())  # columns
_MOST_BYTES_PER_PIXEL = 9  # four channels of 16 bits, and a little for headers


def find_images(
    images: str, labels: str | None, identity_level: int | None, merge_names: bool
) -> Catalog:
    """Lists the images of a data source; the arguments are the converter's flags of these names.

    Raises:
      UserError: there is no such file or folder, it holds several formats, or cannot be used.
    """
    paths = split_paths(images)
    kinds = {_kind(path) for path in paths}
    is_list = labels and files.exists(labels)
    if kinds == {_FOLDER} and len(paths) == 1 and not is_list:
        paths = _look_into(paths[0], identity_level is not None)
        kinds = {_kind(path) for path in paths}
    kind = kinds.pop()
    if kinds:
        raise UserError(f"--images={images} names files of two formats: convert one at a time")
    level = identity_level or 1
    if level > 1 and (labels or kind != _FOLDER):
        what = f"--labels={labels}" if labels else f"--images={images}"
        raise UserError(
            f"--identity_level={level} is for folders of people: leave it out for {what}"
        )
    if len({os.path.basename(path) for path in paths}) < len(paths) and kind != _FOLDER:
        raise UserError(f"--images={images} names two files of one name: rename one")
    if kind == _FOLDER and labels:
        if len(paths) > 1:
            raise UserError(f"--labels={labels} is for one folder: give one as --images")
        return list_labelled(paths[0], labels, merge_names)
    if kind == _FOLDER:
        return folders.scan_folders(paths, level, merge_names)
    if kind == tar_shards.SUFFIX:
        return tar_shards.list_images(paths, merge_names, labels)
    if kind == parquet.SUFFIX:
        return parquet.list_images(paths, merge_names, labels)
    if labels or len(paths) > 1:
        what = f"--labels={labels}" if labels else "several .rec files, which number their people"
        raise UserError(f"--images={images} with {what}: give one .rec, which has its own labels")
    return recordio.list_images(paths[0])


def list_labelled(folder: str, source: str, merge_names: bool = False) -> Catalog:
    """Lists the images below a folder that the list `source` labels; the others are unusable.

    Raises:
      UserError: the list cannot be used, or there is no such folder.
    """
    images, bad, others = folders.list_files(folder)
    labels: dict[str, str] = {}
    lines: dict[str, int] = {}
    unusable = dict(bad)
    for line, text, label in _read_list(source):
        path = tables.normal_path(text.strip(), f"--labels={source}, line {line}", folder)
        first = lines.setdefault(path, line)
        if not label:
            unusable[path] = f"no label in {source}, line {line}"
        elif labels.setdefault(path, label) != label:
            unusable[path] = (
                f"listed under two people: '{labels[path]}' ({source}, line {first}) and "
                f"'{label}' (line {line})"
            )
    found = set(images)
    for path, line in lines.items():
        if path not in found:
            unusable.setdefault(path, f"no such image below --images, but in {source}, line {line}")
    for path in found.difference(lines):
        unusable[path] = f"not in {source}"
    paths = [path for path in images if path not in unusable]
    return Catalog(
        datasets.list_images(paths, [labels[path] for path in paths], merge_names),
        datasets.list_unusable(unusable.items()),
        others,
        root=folder,
    )


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
    level = catalog.naming.level if catalog.naming else 0
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
        links = int(left_out["reason"].astype(str).str.startswith(folders.LINK).sum())
        if links and not reason.startswith(folders.LINK):
            parts.append(f"{links:,} of them are symbolic links: {folders.COPY}")
    if len(others):
        parts += [folders.summarise(others), *folders.advise(others)]
    raise UserError("; ".join(parts))


def unpack(images: pd.DataFrame, scratch: str, run: workers.Map) -> pd.DataFrame:
    """Copies images that cannot be read by themselves to `scratch`; returns the table of all."""
    if "file" in images and _kind(images["file"].cat.categories[0]) == parquet.SUFFIX:
        return parquet.unpack(images, scratch, run)
    return images


def may_pass(error: OSError) -> bool:
    """Whether another try to read an image may succeed; a bad sector fails with EIO for ever."""
    return errors.is_temporary(error) and error.errno != errno.EIO


def read_image(root: str, place: Place, max_pixels: int) -> tuple[bytes, int | None]:
    """Reads an image of a catalog after `unpack`; `root` is the catalog's.

    Returns:
      Its bytes, and the byte at which they begin in the file; None where they are not in a row.

    Raises:
      BadImage: it is cut short, damaged, or larger than any image of so many pixels.
      OSError: it cannot be read.
    """
    most = max_pixels * _MOST_BYTES_PER_PIXEL
    if place.file.lower().endswith(recordio.SUFFIX):
        return recordio.read_image(place, most)
    path = place.file or os.path.join(root, place.path)
    if (place.span if place.file else files.size(path)) > most:
        raise BadImage("a file larger than any image within --max_megapixels")
    data = files.read_bytes(path, place.offset, place.span if place.file else None)
    if len(data) < place.span:
        raise BadImage("cut short: its file ends inside it")
    return data, place.offset


def split_paths(images: str) -> list[str]:
    """The paths in the value of --images: separated by commas, with ranges such as {00..12}.

    Raises:
      UserError: a range is empty or too long.
    """
    if files.exists(images):  # the name of a folder may hold a comma
        return [images]
    return [path for part in images.split(",") if part.strip() for path in _expand(part.strip())]


def _expand(pattern: str) -> list[str]:
    found = _RANGE.search(pattern)
    if not found:
        return [pattern]
    first, last = map(int, found.groups())
    if not 0 <= last - first < _MOST_FILES:
        raise UserError(f"--images: {found[0]} is no range of files: give one such as {{00..12}}")
    numbers = (f"{number:0{len(found[1])}d}" for number in range(first, last + 1))
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [path for number in numbers for path in _expand(f"{head}{number}{tail}")]


def _kind(path: str) -> str:
    """`_FOLDER` or a suffix."""
    if not files.exists(path) or files.is_folder(path):
        return _FOLDER  # which is refused if it does not exist
    found = next((suffix for suffix in _SUFFIXES if path.lower().endswith(suffix)), None)
    if found:
        return found
    raise UserError(
        f"--images={path} is not a folder, and no file that fv reads ({', '.join(_SUFFIXES)}, "
        ".bin): unpack an archive, and give the folder"
    )


def _look_into(folder: str, take_people: bool) -> list[str]:
    """The files in a folder that hold images, or the folder itself where there are none.

    `take_people` decides for the folder where it holds both.
    """
    held: dict[str, list[str]] = {}
    for name in files.names(folder) if files.is_folder(folder) else ():
        kind = next((each for each in _SUFFIXES if name.lower().endswith(each)), _FOLDER)
        held.setdefault(kind, []).append(os.path.join(folder, name))
    held.pop(_FOLDER, None)
    if not held:
        return [folder]
    seen = [f"{len(found):,} {kind}" for kind, found in held.items()]
    first = next(iter(held.values()))
    # In a bucket each look into a folder costs a request.
    people = not files.is_remote(folder) and folders.holds_people(folder)
    if people and take_people:
        return [folder]
    if people or len(held) > 1:
        seen += ["folders of images"] if people else []
        other = ", or --identity_level=1 to take the folders for people" if people else ""
        what = f"--images={folder} holds {' and '.join(seen)}"
        raise UserError(f"{what}: give the files, such as --images={first[0]}{other}")
    if recordio.SUFFIX in held and len(first) > 1:
        raise UserError(f"--images={folder} holds {seen[0]}: give one of them, as {first[0]}")
    return first


def _read_list(source: str) -> Iterator[tuple[int, str, str]]:
    """Yields the number of the line, the path and the label of each row of a list."""
    try:
        text = io.TextIOWrapper(files.open_bytes(source), encoding="utf-8-sig", newline="")
        with text as file:
            yield from _read_rows(file, source)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"--labels={source} is no list of paths and labels in UTF-8 ({error}): save it as CSV"
        ) from error


def _read_rows(file: Iterator[str], source: str) -> Iterator[tuple[int, str, str]]:
    first = next(file, "")
    separator = next((sign for sign in "\t," if sign in first), None)
    columns = _find_columns([name.strip().lower() for name in first.split(separator)], source)
    lines = file if columns else itertools.chain([first], file)
    if separator == ",":
        rows: Iterator[list[str]] = csv.reader(lines, strict=True)
    elif separator or columns:
        rows = (line.rstrip("\r\n").split(separator) for line in lines)
    else:  # a path may hold blanks
        rows = (line.rsplit(None, 1) for line in lines)
    path_at, label_at = columns or (0, 1)
    empty = True
    for number, row in enumerate(rows, start=2 if columns else 1):
        if not columns and "".join(row[2:]).strip():
            raise UserError(
                f"--labels={source}, line {number}: {len(row)} fields, and line 1 names no "
                "columns: name them, such as path,label"
            )
        if "".join(row).strip():
            empty = False
            row += [""] * (max(path_at, label_at) + 1 - len(row))
            yield number, row[path_at], row[label_at].strip()
    if empty:
        raise UserError(f"--labels={source} lists nothing: give a line 'path,label' for each image")


def _find_columns(names: Sequence[str], source: str) -> tuple[int, int] | None:
    """The places of the path and the label in each line; None where a line names no columns."""
    path = next((names.index(name) for name in _PATHS if name in names), None)
    label = next((names.index(name) for name in datasets.LABEL_NAMES if name in names), None)
    if (path is None) != (label is None):
        what, known = ("path", _PATHS) if path is None else ("label", datasets.LABEL_NAMES)
        raise UserError(
            f"--labels={source} names no column of a {what} in {', '.join(names)}: rename it to "
            f"{known[0]}"
        )
    return None if path is None or label is None else (path, label)
