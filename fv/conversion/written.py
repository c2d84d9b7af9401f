"""Which shards fv wrote: the manifest lists those of a finished data set, a note each shard of an unfinished one."""

import contextlib
import dataclasses
import json
import os

from fv import files, manifest, ownership
from fv.errors import UserError

FOLDER = os.path.join(ownership.PRIVATE, "shards")  # of notes
_EARLIER_FOLDER = ".shards"  # of an earlier fv's notes, which are read, and removed like others
_SUFFIX = ".json"
_RETIRED = manifest.FILE_NAME  # in .fv/: what is left of a data set that is being replaced


def note(folder: str, shard: manifest.Shard, key: str) -> None:
    """Notes a shard that is about to get its name.

    Args:
      folder: the output folder.
      shard: what was written.
      key: digest of all that decided its bytes.
    """
    files.make_folder(os.path.join(folder, FOLDER))
    files.save_json({"key": key, **dataclasses.asdict(shard)}, _paths(folder, shard.name)[0])


def find(folder: str, name: str, key: str) -> manifest.Shard | None:
    """The shard of that name, where an earlier run noted it with this key and its bytes are still those it wrote."""
    noted = _read(folder, name)
    if noted is None or noted[0] != key:
        return None
    return noted[1] if is_unchanged(folder, noted[1]) else None


def records(folder: str) -> dict[str, manifest.Shard]:
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
        retired = os.path.join(ownership.private(folder), _RETIRED)
        files.rename(os.path.join(folder, manifest.FILE_NAME), retired)


def count(folder: str) -> int:
    """Number of shards that are noted and there."""
    return sum(files.exists(os.path.join(folder, name)) for name in _noted(folder))


def forget(folder: str, name: str) -> None:
    """Removes the notes of a shard that was removed."""
    for path in _paths(folder, name):
        if _parse(path):
            files.remove(path)


def forget_all(folder: str) -> None:
    """Removes all notes and the retired manifest, as when a manifest says that every shard is whole."""
    for name in _noted(folder):
        forget(folder, name)
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
