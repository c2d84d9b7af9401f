"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from typing import IO

TEMPORARY_SUFFIX = ".tmp-"


@contextlib.contextmanager
def atomic_open(path: str, mode: str = "w") -> Iterator[IO]:
    """Opens a temporary file beside `path` for writing and renames it to `path` when the block ends without an exception.

    A process killed in between leaves `path` as it was. The temporary name is `path` with `TEMPORARY_SUFFIX` and the
    process id, so two writers never share one.
    """
    temporary = f"{path}{TEMPORARY_SUFFIX}{os.getpid()}"
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise
