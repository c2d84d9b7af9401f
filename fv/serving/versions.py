"""Version folders: written under a temporary name, renamed when complete, checked by SHA256SUMS.

SHA256SUMS has the format that `sha256sum --check` reads. It shows damage and mix-ups. It is no
signature: who can change a file can change its line.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

from fv import files, ownership
from fv.errors import UserError
from fv.serving import contract

FILE_NAME = "SHA256SUMS"
_ADDED, _REMOVED, _CHANGED = "added", "removed", "changed"
_ADVICE = {
    _ADDED: "is no file of this export: remove it, or export again",
    _REMOVED: f"is missing, though {FILE_NAME} lists it: copy the export again",
    _CHANGED: f"is not what fv.export wrote ({FILE_NAME}): copy the export again",
}


@contextlib.contextmanager
def new_version(output: str) -> Iterator[str]:
    """Makes a folder to fill, which becomes the next version if the block raises nothing.

    It lies in OUTPUT/.fv/, which TensorFlow Serving ignores. What killed exports left there is
    removed first.

    Args:
      output: folder of versions; made if it is missing.

    Yields:
      The folder, under its temporary name.
    """
    with ownership.temporary_folder(output) as temporary:
        yield temporary
        while True:
            version = os.path.join(output, str(max(list_versions(output), default=0) + 1))
            try:
                os.rename(temporary, version)
                return
            except OSError:
                if not files.exists(version):  # else another export has just taken the number
                    raise


def list_versions(output: str) -> list[int]:
    """The versions in a folder, rising."""
    return sorted(int(name) for name in os.listdir(output) if name.isdecimal())


def latest_version(path: str) -> str:
    """Returns a version folder itself, or the highest version in a folder of versions.

    Raises:
      UserError: it is neither.
    """
    if files.exists(os.path.join(path, "saved_model.pb")):
        return path
    held = list_versions(path) if files.is_folder(path) else []
    if not held:
        raise UserError(
            f"{path} holds no SavedModel: give a version folder that fv.export wrote, such as "
            "export/1"
        )
    return os.path.join(path, str(held[-1]))


def trusted_version(path: str) -> str:
    """Returns `latest_version`, its checksums checked.

    If there are no checksums, a warning on stderr says that a SavedModel is code.

    Raises:
      UserError: there is none, or its files do not match its checksums.
    """
    folder = latest_version(path)
    if has_checksums(folder):
        check_checksums(folder)
    else:
        print(
            f"fv: warning: {folder} has no {FILE_NAME}, so nothing vouches for it: a SavedModel is "
            "code that runs with your rights; load it only if you trust where it comes from",
            file=sys.stderr,
        )
    return folder


def remove_oldest(output: str, keep: int) -> None:
    """Removes all but the last `keep` exports; 0 keeps all.

    Only exports that hold exactly the files that fv.export wrote are removed, each by a rename, so
    that a server never sees half of one. One line on stderr names the older folders that stay.
    """
    if not keep:
        return
    held = list_versions(output)
    exports = [version for version in held if _is_export(os.path.join(output, str(version)))]
    kept = {version: "no export of fv" for version in held[:-keep] if version not in exports}
    for version in exports[:-keep]:
        folder = os.path.join(output, str(version))
        try:
            change = next(_find_changes(folder, hidden=True), None)
        except UserError:
            change = FILE_NAME, _CHANGED
        if change:
            path, what = change
            kept[version] = f"{path} was {what}"
        else:
            with ownership.temporary_folder(output) as doomed:
                os.rename(folder, os.path.join(doomed, str(version)))
    if kept:
        named = ", ".join(f"{version}/ ({kept[version]})" for version in sorted(kept))
        print(f"--keep={keep} leaves in {output}: {named}", file=sys.stderr)


def _is_export(folder: str) -> bool:
    """Whether fv.export made a folder, even if somebody changed it later."""
    card = os.path.join(folder, contract.CARD)
    if os.path.islink(folder) or not (files.is_file(card) and has_checksums(folder)):
        return False
    try:
        return files.load_json(card).keys() >= contract.CARD_KEYS
    except UserError:
        return False


def write_checksums(folder: str) -> None:
    """Writes the checksums of every file in a folder and below it."""
    lines = [f"{files.sha256(os.path.join(folder, path))}  {path}\n" for path in _paths(folder)]
    with files.atomic_open(os.path.join(folder, FILE_NAME)) as file:
        file.writelines(lines)


def has_checksums(folder: str) -> bool:
    """Whether a folder has checksums."""
    return files.exists(os.path.join(folder, FILE_NAME))


def check_checksums(folder: str) -> None:
    """Checks a folder against its checksums; hidden files are ignored.

    Raises:
      UserError: a file is missing, changed or was not written by the export, or the checksums are
        damaged.
    """
    for path, change in _find_changes(folder):
        raise UserError(f"{os.path.join(folder, path)} {_ADVICE[change]}")


def _find_changes(folder: str, *, hidden: bool = False) -> Iterator[tuple[str, str]]:
    """Yields the files that are not as the checksums say, and what happened to each.

    Raises:
      UserError: the checksums are damaged.
    """
    path = os.path.join(folder, FILE_NAME)
    lines = files.read_bytes(path).decode(errors="replace").splitlines()
    rows = [line.split("  ", 1) for line in lines]
    if any(len(row) != 2 for row in rows):
        raise UserError(f"{path} is damaged: copy the export again")
    listed = {name: digest for digest, name in rows}
    for name in sorted({*listed, *_paths(folder, hidden=hidden)}):
        path = os.path.join(folder, name)
        if name not in listed:
            yield name, _ADDED
        elif not files.is_file(path):
            yield name, _REMOVED
        elif files.sha256(path) != listed[name]:
            yield name, _CHANGED


def _paths(folder: str, *, hidden: bool = False) -> list[str]:
    """Relative paths of the files, sorted, with / between folders; with hidden ones if `hidden`."""
    found = []
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if hidden or not name.startswith(".")]
        shown = [name for name in names if hidden or not name.startswith(".")]
        found += [os.path.relpath(os.path.join(above, name), folder) for name in shown]
    return sorted(path.replace(os.sep, "/") for path in found if path != FILE_NAME)
