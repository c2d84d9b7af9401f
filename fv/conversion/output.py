"""The folder that a conversion writes into: one run at a time, and nothing removed but what the converter made."""

import contextlib
import os
import re
from collections.abc import Collection, Iterator

from fv import files, folder_lock, manifest
from fv.conversion import report, written
from fv.errors import UserError

LEFT_OUT = "left_out.csv"
SCRATCH = ".scratch"

_SPLITS = "|".join(manifest.SPLITS)
_TOLD = "|".join(map(re.escape, (manifest.FILE_NAME, LEFT_OUT, report.FILE_NAME, report.PAGE_NAME)))
_OURS = re.compile(rf"(({_SPLITS})-\d{{5,}}-of-\d{{5,}}\.tfrecord|{_TOLD})({re.escape(files.TEMPORARY_SUFFIX)}\d+)?")


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
      UserError: another run is writing there, or the folder holds a finished data set and `overwrite` is false.
    """
    files.make_folder(folder)
    scratch = os.path.join(folder, SCRATCH)
    with folder_lock.held(folder, f"another conversion is writing into {folder}: wait for it, or give another --output"):
        if files.exists(os.path.join(folder, manifest.FILE_NAME)) and not overwrite:
            raise UserError(f"--output={folder} holds a finished data set: give another folder, or --overwrite")
        files.remove_folder(scratch)
        files.make_folder(scratch)
        try:
            yield scratch
        finally:
            files.remove_folder(scratch)


def clear(folder: str, keep: Collection[str] = ()) -> None:
    """Removes what the converter made in the folder before, the manifest first, so that half a data set never has one.

    Args:
      folder: the output folder.
      keep: names of shards that stay, with the notes that they are whole; where there are none the notes go too.
    """
    ours = [name for name in files.names(folder) if _OURS.fullmatch(name) and name not in keep]
    for name in sorted(ours, key=lambda name: name != manifest.FILE_NAME):
        files.remove(os.path.join(folder, name))
    if not keep:
        written.forget(folder)
