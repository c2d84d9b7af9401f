"""Writes the images of shards back: a folder per person, or tars in WebDataset's form."""

import contextlib
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from typing import Any

from fv import files, record
from fv.errors import UserError

TAR = ".tar"

_TAR_BYTES = 1 << 30  # of one tar; WebDataset's advice is 100 MB to a few GB
_SHOWN_DIGITS = 8  # of a path's digest, in a name that would be there twice


class ImageWriter(contextlib.AbstractContextManager):
    """Writes each image of the records that `add` is called with once.

    Everything goes to a temporary folder beside the target until `publish`. The temporary folder is
    removed at the end of the block.

    Args:
      target: a new folder, for SPLIT/PERSON/NAME.jpg; or STEM.tar, for files STEM-SPLIT-NNNNN.tar
        of pairs NUMBER.jpg and NUMBER.json, which has the fields `identity` and `path`.
      splits: the split of each person.

    Raises:
      UserError: the target exists.
    """

    def __init__(self, target: str, splits: Mapping[str, str]):
        stem, suffix = os.path.splitext(target.rstrip("/"))
        self._is_tar = suffix == TAR
        self._target = stem if self._is_tar else target.rstrip("/")
        parent, start = os.path.split(self._target)
        names = os.listdir(parent or ".") if os.path.isdir(parent or ".") else []
        there = [n for n in names if n.startswith(f"{start}-") and n.endswith(TAR)]
        if there if self._is_tar else start in names:
            raise UserError(
                f"--export={target}: {os.path.join(parent, there[0] if there else start)} is there "
                "already: give another name, or move it away"
            )
        self._splits, self._folder = splits, f"{self._target}{files.TEMPORARY_SUFFIX}{os.getpid()}"
        self._seen: set[bytes] = set()  # paths of images
        self._names: set[str] = set()  # of files
        self._tars: dict[str, tarfile.TarFile] = {}  # the last of each split

    def __exit__(self, *_: object) -> None:
        for tar in self._tars.values():
            tar.close()
        files.remove_folder(self._folder)

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, pair: Mapping[str, Any]) -> None:
        """Writes both images of a record, if they are new."""
        for image, identity, path in (
            (record.IMAGE_A, record.IDENTITY_A, record.PATH_A),
            (record.IMAGE_B, record.IDENTITY_B, record.PATH_B),
        ):
            if pair[path] not in self._seen:
                write = self._write_member if self._is_tar else self._write_file
                write(pair[image], pair[identity].decode(), pair[path].decode())
                self._seen.add(pair[path])

    def publish(self) -> None:
        """Gives the files their names; call it after the last `add`."""
        if not self._is_tar:
            os.rename(self._folder, self._target)
            return
        for tar in self._tars.values():
            tar.close()
        for name in os.listdir(self._folder):
            os.rename(os.path.join(self._folder, name), f"{self._target}-{name}")

    def _write_file(self, data: bytes, identity: str, path: str) -> None:
        name = path.removeprefix(f"{identity}/")
        name = name if name.lower().endswith((".jpg", ".jpeg")) else f"{name}.jpg"
        folder = os.path.join(self._folder, self._splits[identity], _file_name(identity))
        file = os.path.join(folder, _file_name(name))
        if file in self._names:
            digest = hashlib.sha256(path.encode()).hexdigest()[:_SHOWN_DIGITS]
            file = os.path.join(folder, f"{digest}_{_file_name(name)}")
        self._names.add(file)
        os.makedirs(folder, exist_ok=True)
        with open(file, "xb") as output:
            output.write(data)

    def _write_member(self, data: bytes, identity: str, path: str) -> None:
        split, number = self._splits[identity], 0
        last = self._tars.get(split)
        if last and last.offset >= _TAR_BYTES:
            number = int(str(last.name).rpartition("-")[2].removesuffix(TAR)) + 1
            last.close()
        if not last or number:
            os.makedirs(self._folder, exist_ok=True)
            file = os.path.join(self._folder, f"{split}-{number:05d}{TAR}")
            self._tars[split] = tarfile.open(file, "x")  # noqa: SIM115
        described = json.dumps({"identity": identity, "path": path}).encode()
        for suffix, content in (("jpg", data), ("json", described)):
            info = tarfile.TarInfo(f"{len(self._seen):09d}.{suffix}")
            info.size = len(content)
            self._tars[split].addfile(info, io.BytesIO(content))


def _file_name(text: str) -> str:
    """A text as the name of one visible file."""
    name = text.replace("/", "_").replace("\0", "_")
    return f"_{name}" if not name or name.startswith(".") else name
