"""Version folders: written under a name that servers pass over, renamed when whole, the oldest removed."""

import contextlib
import os
import sys
from collections.abc import Iterator

from fv import files, ownership
from fv.errors import UserError
from fv.serving import model_card

# SHA256SUMS: what an export's files were when it was written, in the format that `sha256sum
# --check` reads.
#
# It shows damage and mix-ups. It is no signature: who can change a file can change its line.

FILE_NAME = "SHA256SUMS"


def write_checksums(folder: str) -> None:
    """Writes the checksums of every file in a folder and below it."""
    lines = [f"{files.sha256(os.path.join(folder, path))}  {path}\n" for path in _paths(folder)]
    with files.atomic_open(os.path.join(folder, FILE_NAME)) as file:
        file.writelines(lines)


def has_checksums(folder: str) -> bool:
    """Whether a folder has checksums."""
    return os.path.exists(os.path.join(folder, FILE_NAME))


def check_checksums(folder: str) -> None:
    """Checks a folder against its checksums; files whose name begins with a dot are passed over.

    Raises:
      UserError: a file is missing, changed or was not written by the export, or the checksums are damaged.
    """
    listed = _read(folder)
    for path in sorted({*listed, *_paths(folder)}):
        if path not in listed:
            raise UserError(
                f"{os.path.join(folder, path)} is no file of this export: remove it, or export again"
            )
        if not os.path.isfile(os.path.join(folder, path)):
            raise UserError(
                f"{os.path.join(folder, path)} is missing, though {FILE_NAME} lists it: copy the export again"
            )
        if files.sha256(os.path.join(folder, path)) != listed[path]:
            raise UserError(
                f"{os.path.join(folder, path)} is not what fv.export wrote ({FILE_NAME}): copy the export again"
            )


def find_change(folder: str) -> str | None:
    """What is in a folder and not as the export wrote it, files whose name begins with a dot included; None for nothing."""
    try:
        listed = _read(folder)
    except UserError:
        return f"{FILE_NAME} was changed"
    for path in sorted({*listed, *_paths(folder, hidden=True)}):
        if path not in listed:
            return f"{path} was added"
        if (
            not os.path.isfile(os.path.join(folder, path))
            or files.sha256(os.path.join(folder, path)) != listed[path]
        ):
            return f"{path} was changed"
    return None


def _read(folder: str) -> dict[str, str]:
    path = os.path.join(folder, FILE_NAME)
    lines = files.read_bytes(path).decode(errors="replace").splitlines()
    rows = [line.split("  ", 1) for line in lines]
    if any(len(row) != 2 for row in rows):
        raise UserError(f"{path} is damaged: copy the export again")
    return {name: digest for digest, name in rows}


def _paths(folder: str, *, hidden: bool = False) -> list[str]:
    """Relative paths of the files, sorted, with / between folders; with those whose name begins with a dot if `hidden`."""
    found = []
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if hidden or not name.startswith(".")]
        found += [
            os.path.relpath(os.path.join(above, name), folder)
            for name in names
            if hidden or not name.startswith(".")
        ]
    return sorted(path.replace(os.sep, "/") for path in found if path != FILE_NAME)


@contextlib.contextmanager
def new_version(output: str) -> Iterator[str]:
    """Makes a folder to fill, which becomes the next version when the block ends without an exception.

    It lies in OUTPUT/.fv/, which TensorFlow Serving passes over; what killed exports left there is removed first.

    Args:
      output: folder of versions; made where it is missing.

    Yields:
      The folder, under its temporary name.
    """
    with ownership.temporary_folder(output) as temporary:
        yield temporary
        _publish(temporary, output)


def list_versions(output: str) -> list[int]:
    """The versions in a folder, rising."""
    return sorted(int(name) for name in os.listdir(output) if name.isdecimal())


def remove_oldest(output: str, keep: int) -> None:
    """Removes all but the last `keep` versions; 0 keeps all. Each vanishes at once: a server never sees half of one.

    Only exports of fv are counted and removed, and only if they hold exactly the files that fv.export wrote. One line on
    stderr names the older folders that stay.
    """
    exports = [
        version
        for version in list_versions(output)
        if _is_export(os.path.join(output, str(version)))
    ]
    changes = {}
    for version in exports[:-keep] if keep else []:
        folder = os.path.join(output, str(version))
        changes[version] = find_change(folder)
        if changes[version] is None:
            with ownership.temporary_folder(output) as doomed:
                os.rename(folder, os.path.join(doomed, str(version)))
    changes |= {
        other: "no export of fv"
        for other in list_versions(output)[:-keep]
        if keep and other not in exports
    }
    kept = [f"{version}/ ({changes[version]})" for version in sorted(changes) if changes[version]]
    if kept:
        print(f"--keep={keep} leaves in {output}: {', '.join(kept)}", file=sys.stderr)


def latest_version(path: str) -> str:
    """The version folder itself, or the highest version in a folder of versions.

    Raises:
      UserError: neither.
    """
    if os.path.exists(os.path.join(path, "saved_model.pb")):
        return path
    held = list_versions(path) if os.path.isdir(path) else []
    if not held:
        raise UserError(
            f"{path} holds no SavedModel: give a version folder that fv.export wrote, such as export/1"
        )
    return os.path.join(path, str(held[-1]))


def _publish(temporary: str, output: str) -> None:
    """Renames to the next free integer; another export may have taken it since."""
    while True:
        version = os.path.join(output, str(max(list_versions(output), default=0) + 1))
        try:
            os.rename(temporary, version)
            return
        except OSError:
            if not os.path.exists(version):
                raise


def _is_export(folder: str) -> bool:
    """Whether a folder is what fv.export made, or was before somebody changed it."""
    card = os.path.join(folder, model_card.JSON)
    if os.path.islink(folder) or not (os.path.isfile(card) and has_checksums(folder)):
        return False
    try:
        return files.load_json(card).keys() >= model_card.KEYS
    except (UserError, AttributeError):
        return False
