"""Which shards of an unfinished conversion are whole: a note beside each, so that a later run need not write it again."""

import dataclasses
import json
import os

from fv import files, manifest

FOLDER = ".shards"
_SUFFIX = ".json"


def note(folder: str, shard: manifest.Shard, key: str) -> None:
    """Notes that a shard is whole.

    Args:
      folder: the output folder.
      shard: what was written.
      key: digest of all that decided its bytes.
    """
    files.make_folder(os.path.join(folder, FOLDER))
    files.save_json({"key": key, **dataclasses.asdict(shard)}, _path(folder, shard.name))


def find(folder: str, name: str, key: str) -> manifest.Shard | None:
    """The shard of that name, where an earlier run noted it with this key and its bytes are still those it wrote."""
    try:
        noted = json.loads(files.read_bytes(_path(folder, name)))
        if noted.pop("key") != key or files.size(os.path.join(folder, name)) != noted["bytes"]:
            return None
        return manifest.Shard(**noted) if files.sha256(os.path.join(folder, name)) == noted["sha256"] else None
    except (OSError, ValueError, TypeError, KeyError):  # no note, or one that another version wrote
        return None


def count(folder: str) -> int:
    """Number of shards that are noted."""
    notes = os.path.join(folder, FOLDER)
    return sum(name.endswith(_SUFFIX) for name in files.names(notes)) if files.is_folder(notes) else 0


def forget(folder: str) -> None:
    """Removes all notes, as when a manifest says that every shard is whole."""
    files.remove_folder(os.path.join(folder, FOLDER))


def _path(folder: str, name: str) -> str:
    return os.path.join(folder, FOLDER, f"{name}{_SUFFIX}")
