"""The folder that a conversion writes into: one run at a time, and nothing replaced or removed but what fv wrote."""

import contextlib
import functools
import json
import os
import re
from collections.abc import Collection, Iterator

from fv import files, folder_lock, manifest, ownership, progress
from fv.conversion import report, written
from fv.errors import UserError

LEFT_OUT = "left_out.csv"

_SCRATCH = "scratch"  # in .fv/
_SHARD = re.compile(rf"({'|'.join(manifest.SPLITS)})-\d{{5,}}-of-\d{{5,}}\.tfrecord")
_REPORTS = (LEFT_OUT, report.FILE_NAME, report.PAGE_NAME)
_REPORT_KEYS = {"images", "left_out", "copies", "identities", "splits"}
_MARKS = {LEFT_OUT: b"path,reason\n", report.PAGE_NAME: b"<title>Data report</title>"}
_MARK_BYTES = 10_000  # of a file, that hold its mark


@contextlib.contextmanager
def claim(folder: str, overwrite: bool) -> Iterator[str]:
    """Makes the folder, keeps other runs out of it, and gives a scratch folder inside it that is removed at the end.

    What an earlier run left stays until `clear`. A remote folder cannot be locked: there, two runs at once are not noticed.

    Args:
      folder: the output folder.
      overwrite: whether a finished data set there may be replaced.

    Yields:
      The scratch folder, empty.

    Raises:
      UserError: another run is writing there, the folder holds a finished data set and `overwrite` is false, or it holds
        files of a conversion's names that fv did not write.
    """
    files.make_folder(folder)
    with folder_lock.held(
        folder,
        f"another conversion is writing into {folder}: wait for it, or give another --output",
    ):
        _claim_files(folder)
        if files.exists(os.path.join(folder, manifest.FILE_NAME)) and not overwrite:
            raise UserError(
                f"--output={folder} holds a finished data set: give another folder, or --overwrite"
            )
        ownership.remove_private(folder, _SCRATCH)
        scratch = os.path.join(ownership.private(folder), _SCRATCH)
        files.make_folder(scratch)
        try:
            yield scratch
        finally:
            ownership.remove_private(folder, _SCRATCH)
            ownership.tidy(folder)


def clear(folder: str, keep: Collection[str] = ()) -> None:
    """Removes what fv wrote in the folder before, the manifest first, so that half a data set never has one.

    Args:
      folder: the output folder.
      keep: names of shards that stay, with the notes that tell of them.

    Raises:
      UserError: one of the files is not what fv wrote; then none is removed.
    """
    _claim_files(folder)
    doomed = [name for name in _shards(folder) if name not in keep]
    recorded = written.records(folder)
    with progress.progress(sum(recorded[name].bytes for name in doomed), "compare", "byte") as bar:
        changed = []
        for name in doomed:
            changed += [] if written.is_unchanged(folder, recorded[name]) else [name]
            bar.update(recorded[name].bytes)
    ownership.require_none(changed, folder)
    written.retire_manifest(folder)
    ownership.remove(folder, _REPORTS)
    for name in doomed:
        files.remove(os.path.join(folder, name))
        written.forget(folder, name)
    if not keep:
        written.forget_all(folder)


def _claim_files(folder: str) -> None:
    """Checks whose the manifest and the reports are, and, by their sizes alone, the shards."""
    told, recorded = (manifest.FILE_NAME, *_REPORTS), written.records(folder)
    recognise = functools.partial(_recognise, folder)
    foreign = ownership.find_foreign(folder, told, recognise)
    for name in _shards(folder):
        if name not in recorded or not written.is_unchanged(folder, recorded[name], size_only=True):
            foreign.append(name)
    ownership.require_none(foreign, folder)
    ownership.claim(folder, told, recognise)


def _shards(folder: str) -> list[str]:
    return [name for name in files.names(folder) if _SHARD.fullmatch(name)]


def _recognise(folder: str, name: str) -> bool:
    """Whether a file is of a data set that an earlier fv finished, whose manifest lists the shards alone."""
    try:
        manifest.read(folder)
        content = files.read_bytes(os.path.join(folder, name))
        if name == report.FILE_NAME:
            return json.loads(content).keys() >= _REPORT_KEYS
    except (UserError, ValueError, AttributeError):
        return False
    return name == manifest.FILE_NAME or _MARKS[name] in content[:_MARK_BYTES]
