"""The output folder of a conversion: one run at a time, and only files that fv wrote are replaced.

The manifest lists the shards of a finished data set. Until there is one, a note in .fv/shards lists
each shard, so that a later run can tell which shards are fv's, and which are whole.
"""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Collection, Iterator

from fv import files, manifest, ownership, progress
from fv.errors import UserError

LEFT_OUT = "left_out.csv"  # images that were not used
REPORT = "report.json"
REPORT_PAGE = "report.html"

_FILES = (LEFT_OUT, REPORT, REPORT_PAGE)
_SHARD = re.compile(rf"({'|'.join(manifest.SPLITS)})-\d{{5,}}-of-\d{{5,}}\.tfrecord")
_SCRATCH, _NOTES = "scratch", "shards"  # folders in .fv/
NOTES_FOLDER = os.path.join(ownership.PRIVATE, _NOTES)
# The manifest of a data set that is being replaced moves into .fv/ and still lists fv's shards.
_RETIRED = os.path.join(ownership.PRIVATE, manifest.FILE_NAME)


@contextlib.contextmanager
def claim_output(folder: str, overwrite: bool) -> Iterator[str]:
    """Makes and locks the output folder, and gives an empty scratch folder in it.

    Files of an earlier run stay until `clear_output`. A remote folder cannot be locked.

    Raises:
      UserError: another run is writing into the folder; it holds a finished data set and
        `overwrite` is false; or it holds other files with the names of a conversion's files.
    """
    files.make_folder(folder)
    busy = f"another conversion is writing into {folder}: wait for it, or give another --output"
    with files.lock_folder(folder, busy):
        _require_own_files(folder)
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
    """Removes the files of an earlier run, except the shards in `keep` and their notes.

    Raises:
      UserError: one of the files is not as fv wrote it; then none is removed.
    """
    _require_own_files(folder)
    doomed = [name for name in _shard_names(folder) if name not in keep]
    listed = listed_shards(folder)
    changed = []
    with progress.progress(sum(listed[name].bytes for name in doomed), "compare", "byte") as bar:
        for name in doomed:
            if not is_unchanged(folder, listed[name]):
                changed.append(name)
            bar.update(listed[name].bytes)
    ownership.refuse_foreign(changed, folder)
    # The manifest goes first: a folder with a manifest always holds a whole data set.
    if files.exists(os.path.join(folder, manifest.FILE_NAME)):
        ownership.private_folder(folder)
        files.rename(os.path.join(folder, manifest.FILE_NAME), os.path.join(folder, _RETIRED))
    ownership.remove(folder, _FILES)
    for name in doomed:
        files.remove(os.path.join(folder, name))
        if files.exists(_note_path(folder, name)):
            files.remove(_note_path(folder, name))
    if not keep:
        forget_shards(folder)


def note_shard(folder: str, shard: manifest.Shard, key: str) -> None:
    """Lists a shard, and the key of its task, as fv's; call it before the shard gets its name."""
    files.make_folder(os.path.join(folder, NOTES_FOLDER))
    files.save_json({"key": key, **dataclasses.asdict(shard)}, _note_path(folder, shard.name))


def find_noted_shard(folder: str, name: str, key: str) -> manifest.Shard | None:
    """Returns the shard of that name if an earlier run wrote the same task and it is unchanged."""
    noted_key, shard = _read_note(folder, name)
    return shard if shard and noted_key == key and is_unchanged(folder, shard) else None


def count_noted(folder: str) -> int:
    """Returns the number of noted shards that are there."""
    return sum(files.exists(os.path.join(folder, name)) for name in _noted_names(folder))


def forget_shards(folder: str) -> None:
    """Removes all notes and the retired manifest; call it after the manifest is written."""
    ownership.remove_private(folder, _NOTES)
    if files.exists(os.path.join(folder, _RETIRED)):
        files.remove(os.path.join(folder, _RETIRED))


def listed_shards(folder: str) -> dict[str, manifest.Shard]:
    """Returns the shards that fv wrote into a folder, by name; some may be gone or changed."""
    found: dict[str, manifest.Shard] = {}
    # Later ones replace earlier ones: a retired manifest, the manifest, the notes.
    for place in (os.path.join(folder, ownership.PRIVATE), folder):
        with contextlib.suppress(UserError):  # no manifest, or not fv's
            for split in manifest.read(place).splits.values():
                found |= {shard.name: shard for shard in split.shards}
    notes = {name: _read_note(folder, name)[1] for name in _noted_names(folder)}
    return found | {name: shard for name, shard in notes.items() if shard}


def is_unchanged(folder: str, shard: manifest.Shard, *, size_only: bool = False) -> bool:
    """Whether the file of a shard is there and holds what fv wrote."""
    path = os.path.join(folder, shard.name)
    if files.is_folder(path) or not files.exists(path) or files.size(path) != shard.bytes:
        return False
    return size_only or files.sha256(path) == shard.sha256


def _require_own_files(folder: str) -> None:
    """Checks that fv wrote the manifest, the reports and, by their sizes alone, the shards."""
    listed = listed_shards(folder)
    foreign = ownership.find_foreign(folder, (manifest.FILE_NAME, *_FILES))
    for name in _shard_names(folder):
        if name not in listed or not is_unchanged(folder, listed[name], size_only=True):
            foreign.append(name)
    ownership.refuse_foreign(foreign, folder)


def _shard_names(folder: str) -> list[str]:
    return [name for name in files.names(folder) if _SHARD.fullmatch(name)]


def _note_path(folder: str, name: str) -> str:
    return os.path.join(folder, NOTES_FOLDER, f"{name}.json")


def _noted_names(folder: str) -> list[str]:
    notes = os.path.join(folder, NOTES_FOLDER)
    names = files.names(notes) if files.is_folder(notes) else []
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]


def _read_note(folder: str, name: str) -> tuple[str | None, manifest.Shard | None]:
    """Returns the key and the shard of a note; (None, None) if there is no valid note."""
    try:
        note = json.loads(files.read_bytes(_note_path(folder, name)))
        return note.pop("key"), manifest.Shard(**note)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None, None
