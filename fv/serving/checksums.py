"""SHA256SUMS: what an export's files were when it was written, in the format that `sha256sum --check` reads.

It shows damage and mix-ups. It is no signature: who can change a file can change its line.
"""

import os

from fv import files
from fv.errors import UserError

FILE_NAME = "SHA256SUMS"


def write(folder: str) -> None:
    """Writes the checksums of every file in a folder and below it."""
    lines = [f"{files.sha256(os.path.join(folder, path))}  {path}\n" for path in _paths(folder)]
    with files.atomic_open(os.path.join(folder, FILE_NAME)) as file:
        file.writelines(lines)


def exist(folder: str) -> bool:
    """Whether a folder has checksums."""
    return os.path.exists(os.path.join(folder, FILE_NAME))


def check(folder: str) -> None:
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
