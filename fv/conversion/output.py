"""The folder that a conversion writes into: one run at a time, and nothing replaced or removed but what fv wrote."""

import contextlib
import dataclasses
import functools
import json
import os
import re
from collections.abc import Collection, Iterator

from fv import files, manifest, ownership, progress
from fv.conversion import report
from fv.errors import UserError

# Which shards fv wrote: the manifest lists those of a finished data set, a note each shard of an
# unfinished one.

FOLDER = os.path.join(ownership.PRIVATE, "shards")  # of notes
_EARLIER_FOLDER = ".shards"  # of an earlier fv's notes, which are read, and removed like others
_SUFFIX = ".json"
_RETIRED = manifest.FILE_NAME  # in .fv/: what is left of a data set that is being replaced


def note_shard(folder: str, shard: manifest.Shard, key: str) -> None:
    """Notes a shard that is about to get its name.

    Args:
      folder: the output folder.
      shard: what was written.
      key: digest of all that decided its bytes.
    """
    files.make_folder(os.path.join(folder, FOLDER))
    files.save_json({"key": key, **dataclasses.asdict(shard)}, _paths(folder, shard.name)[0])


def find_noted_shard(folder: str, name: str, key: str) -> manifest.Shard | None:
    """The shard of that name, where an earlier run noted it with this key and its bytes are still those it wrote."""
    noted = _read(folder, name)
    if noted is None or noted[0] != key:
        return None
    return noted[1] if is_unchanged(folder, noted[1]) else None


def noted_shards(folder: str) -> dict[str, manifest.Shard]:
    """The shards that fv wrote into a folder, by name; some may be gone or changed since."""
    found = {}
    for place in (
        os.path.join(folder, ownership.PRIVATE),
        folder,
    ):  # a retired manifest first: it is the older one
        with contextlib.suppress(UserError):  # no manifest, or not fv's
            found |= {
                shard.name: shard
                for split in manifest.read(place).splits.values()
                for shard in split.shards
            }
    return found | {name: noted[1] for name in _noted(folder) if (noted := _read(folder, name))}


def is_unchanged(folder: str, shard: manifest.Shard, *, size_only: bool = False) -> bool:
    """Whether the file of a shard is there and is still what was written."""
    path = os.path.join(folder, shard.name)
    if files.is_folder(path) or not files.exists(path) or files.size(path) != shard.bytes:
        return False
    return size_only or files.sha256(path) == shard.sha256


def retire_manifest(folder: str) -> None:
    """Makes a finished data set an unfinished one: its manifest goes to .fv/, where it still tells which shards are fv's."""
    if files.exists(os.path.join(folder, manifest.FILE_NAME)):
        retired = os.path.join(ownership.private_folder(folder), _RETIRED)
        files.rename(os.path.join(folder, manifest.FILE_NAME), retired)


def count_noted(folder: str) -> int:
    """Number of shards that are noted and there."""
    return sum(files.exists(os.path.join(folder, name)) for name in _noted(folder))


def forget_shard(folder: str, name: str) -> None:
    """Removes the notes of a shard that was removed."""
    for path in _paths(folder, name):
        if _parse(path):
            files.remove(path)


def forget_shards(folder: str) -> None:
    """Removes all notes and the retired manifest, as when a manifest says that every shard is whole."""
    for name in _noted(folder):
        forget_shard(folder, name)
    ownership.remove_private(folder, os.path.basename(FOLDER))
    with contextlib.suppress(OSError):  # not there, or somebody put other files into it
        os.rmdir(os.path.join(folder, _EARLIER_FOLDER))
    retired = os.path.join(folder, ownership.PRIVATE, _RETIRED)
    if files.exists(retired):
        files.remove(retired)


def _noted(folder: str) -> list[str]:
    places = [os.path.join(folder, name) for name in (FOLDER, _EARLIER_FOLDER)]
    names = {name for place in places if files.is_folder(place) for name in files.names(place)}
    return sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))


def _read(folder: str, name: str) -> tuple[str, manifest.Shard] | None:
    """The key and the shard that a note tells of."""
    return next(filter(None, map(_parse, _paths(folder, name))), None)


def _parse(path: str) -> tuple[str, manifest.Shard] | None:
    try:
        noted = json.loads(files.read_bytes(path))
        return noted.pop("key"), manifest.Shard(**noted)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ):  # no note, or one that another version wrote
        return None


def _paths(folder: str, name: str) -> list[str]:
    return [os.path.join(folder, place, f"{name}{_SUFFIX}") for place in (FOLDER, _EARLIER_FOLDER)]


LEFT_OUT = "left_out.csv"

_SCRATCH = "scratch"  # in .fv/
_SHARD = re.compile(rf"({'|'.join(manifest.SPLITS)})-\d{{5,}}-of-\d{{5,}}\.tfrecord")
_REPORTS = (LEFT_OUT, report.FILE_NAME, report.PAGE_NAME)
_REPORT_KEYS = {"images", "left_out", "copies", "identities", "splits"}
_MARKS = {LEFT_OUT: b"path,reason\n", report.PAGE_NAME: b"<title>Data report</title>"}
_MARK_BYTES = 10_000  # of a file, that hold its mark


@contextlib.contextmanager
def claim_output(folder: str, overwrite: bool) -> Iterator[str]:
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
    with files.lock_folder(
        folder,
        f"another conversion is writing into {folder}: wait for it, or give another --output",
    ):
        _claim_files(folder)
        if files.exists(os.path.join(folder, manifest.FILE_NAME)) and not overwrite:
            raise UserError(
                f"--output={folder} holds a finished data set: give another folder, or --overwrite"
            )
        ownership.remove_private(folder, _SCRATCH)
        scratch = os.path.join(ownership.private_folder(folder), _SCRATCH)
        files.make_folder(scratch)
        try:
            yield scratch
        finally:
            ownership.remove_private(folder, _SCRATCH)
            ownership.remove_leftovers(folder)


def clear_output(folder: str, keep: Collection[str] = ()) -> None:
    """Removes what fv wrote in the folder before, the manifest first, so that half a data set never has one.

    Args:
      folder: the output folder.
      keep: names of shards that stay, with the notes that tell of them.

    Raises:
      UserError: one of the files is not what fv wrote; then none is removed.
    """
    _claim_files(folder)
    doomed = [name for name in _shards(folder) if name not in keep]
    recorded = noted_shards(folder)
    with progress.progress(sum(recorded[name].bytes for name in doomed), "compare", "byte") as bar:
        changed = []
        for name in doomed:
            changed += [] if is_unchanged(folder, recorded[name]) else [name]
            bar.update(recorded[name].bytes)
    ownership.refuse_foreign(changed, folder)
    retire_manifest(folder)
    ownership.remove(folder, _REPORTS)
    for name in doomed:
        files.remove(os.path.join(folder, name))
        forget_shard(folder, name)
    if not keep:
        forget_shards(folder)


def _claim_files(folder: str) -> None:
    """Checks whose the manifest and the reports are, and, by their sizes alone, the shards."""
    told, recorded = (manifest.FILE_NAME, *_REPORTS), noted_shards(folder)
    recognise = functools.partial(_recognise, folder)
    foreign = ownership.find_foreign(folder, told, recognise)
    for name in _shards(folder):
        if name not in recorded or not is_unchanged(folder, recorded[name], size_only=True):
            foreign.append(name)
    ownership.refuse_foreign(foreign, folder)
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
