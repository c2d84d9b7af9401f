"""Files that appear whole or not at all."""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import IO

from fv.errors import UserError

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


def save_json(content: dict, path: str) -> None:
    """Writes a JSON file, whole or not at all."""
    with atomic_open(path) as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def load_json(path: str) -> dict:
    """Reads a JSON file.

    Raises:
      UserError: it is not JSON.
    """
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except json.JSONDecodeError as error:
            raise UserError(f"{path} is not JSON ({error}): it was cut short or changed") from error
