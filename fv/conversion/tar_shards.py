"""Tar files of images and labels in WebDataset's form; nothing is unpacked.

Files that share a name up to the first dot behind their folder are one sample: an image, and its
label in a .cls, .json or .txt beside it.

Source: https://github.com/webdataset/webdataset, "The WebDataset Format".
"""

import array
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from fv import files, progress
from fv.conversion import datasets, folders
from fv.conversion.datasets import Catalog
from fv.errors import UserError

SUFFIX = ".tar"

_LABELS = (".cls", ".json", ".txt")  # the first that a sample has wins
_MOST_LABEL_BYTES = 1 << 16
_MOST_READ = 1 << 20  # bytes of headers at once: tarfile would take a name of any length
_BLOCK_BYTES = 512


def list_images(
    paths: Sequence[str], merge_names: bool = False, field: str | None = None
) -> Catalog:
    """Lists the images of tars of different names, whose path is TAR/PATH, in the files' order.

    In a JSON object `field` holds the label, or the first of `datasets.LABEL_NAMES`.

    Raises:
      UserError: a file is no tar, or is damaged, or holds no label.
    """
    found: list[str] = []
    names: list[str] = []
    unusable: list[tuple[str, str]] = []
    codes, places, sizes = array.array("i"), array.array("q"), array.array("L")
    with progress.Progress(len(paths), "index", "tar") as bar:
        for code, path in enumerate(paths):
            base, (images, labels, refused) = os.path.basename(path), _index(path, field)
            for name, place, size in images:
                label = labels.get(_sample_of(name), "")
                if not label:
                    unusable.append((f"{base}/{name}", "no label beside it in the tar"))
                    continue
                found.append(f"{base}/{name}")
                names.append(label)
                codes.append(code)
                places.append(place)
                sizes.append(size)
            unusable += [(f"{base}/{name}", reason) for name, reason in refused]
            bar.update()
    if not found and unusable:
        raise UserError(
            f"{paths[0]}: no image with a label in a .cls, .json or .txt beside it; the first "
            f"image is {unusable[0][0]}: unpack a tar of folders, and give the folder"
        )
    held_in = (codes, places, sizes)
    return datasets.list_held_images(found, names, merge_names, paths, held_in, unusable)


def _index(
    path: str, field: str | None
) -> tuple[list[tuple[str, int, int]], dict[str, str], list[tuple[str, str]]]:
    """The name, place and size of a tar's images, labels by sample, and unusable files."""
    images, labels, unusable = [], dict[str, str](), []
    ranks: dict[str, int] = {}  # of the labels, by sample
    seen: set[str] = set()
    with files.open_bytes(path) as file:
        for member in _members(file, path):
            name = folders.printable(os.path.normpath(member.name))
            suffix = os.path.splitext(name)[1].lower()
            is_image = datasets.is_image_name(name)
            if "/." in f"/{name}".replace("/..", "") or not (is_image or suffix in _LABELS):
                continue  # hidden, a folder, or not of an image
            reason = _refuse(member, name, seen, is_image)
            seen.add(name)
            sample = _sample_of(name)
            if reason:
                unusable.append((name.lstrip("/"), reason))
            elif is_image:
                images.append((name, member.offset_data, member.size))
            elif _LABELS.index(suffix) < ranks.get(sample, len(_LABELS)):
                file.seek(member.offset_data)
                ranks[sample] = _LABELS.index(suffix)
                labels[sample] = _parse_label(file.read(member.size), suffix, field)
    return images, labels, unusable


def _members(file: IO[bytes], path: str) -> Iterator[tarfile.TarInfo]:
    """Yields every member of a tar; raises UserError where it is damaged."""
    at = 0
    try:
        with tarfile.open(fileobj=_Bounded(file), mode="r:") as tar:  # type: ignore[call-overload]
            while member := tar.next():
                tar.members = []  # of millions, which nobody asks for
                if tar.offset <= at:  # a negative size
                    raise tarfile.ReadError("a header leads backwards")
                at = tar.offset
                yield member
            # tarfile takes a damaged header behind the first one for the end.
            file.seek(tar.offset)
            if any(file.read(_BLOCK_BYTES)):
                raise tarfile.ReadError("a damaged header")
    except (tarfile.TarError, ValueError, OverflowError) as error:
        file.seek(0)
        if folders.recognise(file.read(_BLOCK_BYTES)) == "archive":
            raise UserError(f"{path} is compressed: unpack it to a .tar") from error
        raise UserError(
            f"{path} is no tar, or damaged behind byte {at}, {error}: get the file again"
        ) from error


class _Bounded:
    """A file for tarfile that refuses to read masses at once."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MOST_READ:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)


def _refuse(member: tarfile.TarInfo, name: str, seen: set[str], is_image: bool) -> str:
    """Why a member cannot be used; '' where it can."""
    if name.startswith("/") or name.split("/")[0] == "..":
        return "its name leaves the tar"
    if member.issym() or member.islnk():
        return "a link: pack a copy of the image instead"
    if not member.isreg() or member.issparse():
        return "not a regular file"
    if name != os.path.normpath(member.name):
        return "its name is not UTF-8"
    if name in seen:
        return "a second file of this name in the tar"
    most = np.iinfo(np.uint32).max if is_image else _MOST_LABEL_BYTES
    return f"larger than the {most:,} bytes that fv reads" if member.size > most else ""


def _sample_of(name: str) -> str:
    """What the files of a sample share."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _parse_label(data: bytes, suffix: str, field: str | None) -> str:
    """The label in a file; '' where there is none."""
    try:
        text = data.decode("utf-8-sig").strip()
        content = json.loads(text) if suffix == ".json" else text
    except (ValueError, RecursionError):
        return ""
    if isinstance(content, dict):
        fields = [field] if field else datasets.LABEL_NAMES
        content = next((content[name] for name in fields if name in content), "")
    is_label = isinstance(content, str | int) and not isinstance(content, bool)
    return str(content).strip() if is_label else ""
