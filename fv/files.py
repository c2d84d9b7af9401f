"""Files that appear whole or not at all, on this machine's disks or, by a path like gs://bucket/folder, behind TensorFlow.

A local path never loads TensorFlow, which costs two seconds and 300 MB a process.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import IO

import filelock

from fv.errors import UserError

TEMPORARY_SUFFIX = ".tmp-"
_READ_BYTES = 4 << 20


def is_remote(path: str) -> bool:
    """Whether the path names a scheme, as in gs://bucket/folder, and so belongs to `tf.io.gfile`."""
    return "://" in path


def read_bytes(path: str, offset: int = 0, length: int | None = None) -> bytes:
    """Reads `length` bytes of a file from `offset` on, or less where it ends; all of it where no length is given."""
    if is_remote(path):
        return _remote().read_bytes(path, offset, length)
    file = os.open(
        path, os.O_RDONLY | os.O_CLOEXEC
    )  # a third of the time of open(), which counts for small images
    try:
        return os.pread(file, os.fstat(file).st_size if length is None else length, offset)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(file)


def read_system_text(path: str) -> str:
    """Reads a small local text of the system's, as those under /proc and /sys; "" where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def open_bytes(path: str, buffering: int = -1) -> IO[bytes]:
    """Opens a file for reading; a local one reads `buffering` bytes at a time."""
    return _remote().open_bytes(path) if is_remote(path) else open(path, "rb", buffering)


def size(path: str) -> int:
    """Bytes of a file."""
    return _remote().size(path) if is_remote(path) else os.path.getsize(path)


def sha256(path: str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open_bytes(path) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def exists(path: str) -> bool:
    """Whether there is such a file or folder."""
    return _remote().exists(path) if is_remote(path) else os.path.exists(path)


def is_folder(path: str) -> bool:
    """Whether there is such a folder."""
    return _remote().is_folder(path) if is_remote(path) else os.path.isdir(path)


def names(folder: str) -> list[str]:
    """The names in a folder, sorted."""
    return sorted(_remote().names(folder) if is_remote(folder) else os.listdir(folder))


def make_folder(path: str) -> None:
    """Makes a folder and those above it, where they are missing."""
    if is_remote(path):
        _remote().make_folder(path)
    else:
        os.makedirs(path, exist_ok=True)


def remove(path: str) -> None:
    """Removes a file."""
    if is_remote(path):
        _remote().remove(path)
    else:
        os.remove(path)


def rename(source: str, target: str) -> None:
    """Gives a file another name, in place of a file that has that name already."""
    if is_remote(target):
        _remote().rename(source, target)
    else:
        os.replace(source, target)


def remove_folder(path: str) -> None:
    """Removes a folder and all in it, as far as it can."""
    if is_remote(path):
        _remote().remove_folder(path)
    else:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def atomic_open(path: str, mode: str = "w", temporary: str | None = None) -> Iterator[IO]:
    """Opens a temporary file for writing and renames it to `path` when the block ends without an exception.

    A process killed in between leaves `path` as it was.

    Args:
      path: the file to write.
      mode: w or wb.
      temporary: the temporary file, on the same file system. By default it lies beside `path`, under a name that no
        file has: `path` with `TEMPORARY_SUFFIX` and the process id (remote: and a random number).
    """
    if is_remote(path):
        with _remote().atomic_open(path, mode, TEMPORARY_SUFFIX, temporary) as file:
            yield file
        return
    opened = _open_new(path, mode) if temporary is None else _open(temporary, mode)
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(opened.name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(opened.name)
        raise


def _open_new(path: str, mode: str) -> IO:
    """Opens a file beside `path` that did not exist: a file of that name may be somebody's."""
    first = f"{path}{TEMPORARY_SUFFIX}{os.getpid()}"
    number = 0
    while True:
        with contextlib.suppress(FileExistsError):
            name = f"{first}-{number}" if number else first
            return _open(name, mode.replace("w", "x"))
        number += 1


def _open(path: str, mode: str) -> IO:
    return open(path, mode, encoding=None if "b" in mode else "utf-8")


def to_json(content: object, indent: int | None = None) -> str:
    """Strict JSON (RFC 8259), which holds no NaN and no infinity.

    Raises:
      UserError: a number is not finite; the message names its key.
    """
    try:
        return json.dumps(content, indent=indent, allow_nan=False)
    except ValueError as error:
        keys = ".".join(map(str, _not_finite(content) or ("it",)))
        raise UserError(
            f"{keys} is no finite number, and so no figure: report this with the command"
        ) from error


def save_json(content: dict, path: str, indent: int = 2) -> None:
    """Writes a JSON file, whole or not at all.

    Raises:
      UserError: as `to_json`.
    """
    try:
        text = to_json(content, indent)
    except UserError as error:
        raise UserError(f"{path} was not written: {error}") from error
    with atomic_open(path) as file:
        file.write(f"{text}\n")


def load_json(path: str, *, not_finite_as_none: bool = False) -> dict:
    """Reads a JSON file that holds an object.

    Args:
      path: the file.
      not_finite_as_none: read NaN and infinity, which an older fv wrote, as None.

    Raises:
      UserError: it is not strict JSON, or no object.
    """
    return parse_json(read_bytes(path), path, not_finite_as_none=not_finite_as_none)


def parse_json(text: bytes | str, path: str, *, not_finite_as_none: bool = False) -> dict:
    """As `load_json`, of what was read from `path`."""

    def refuse(number: str) -> None:
        if not not_finite_as_none:
            raise UserError(
                f"{path} holds {number}, which is no figure: write the file anew with the command that made it"
            )

    def parse_float(number: str) -> float | None:
        value = float(number)
        if math.isfinite(value):
            return value
        refuse(number)
        return None

    try:
        content = json.loads(text, parse_constant=refuse, parse_float=parse_float)
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): it was cut short or changed") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds no JSON object: it was changed, write it anew with the command that made it"
        )
    return content


def _not_finite(content: object) -> tuple[object, ...] | None:
    """The keys that lead to the first number which is not finite; None where all are."""
    if isinstance(content, float):
        return None if math.isfinite(content) else ()
    children: Iterable[tuple[object, object]] = ()
    if isinstance(content, dict | list | tuple):
        children = content.items() if isinstance(content, dict) else enumerate(content)
    found = ((key, _not_finite(child)) for key, child in children)
    return next(((key, *keys) for key, keys in found if keys is not None), None)


def _remote():
    from fv import remote  # loads TensorFlow

    return remote


# Lock on a folder that one run at a time may write to.

LOCK_NAME = ".fv-lock"

# Errors of network disks without locks
_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextlib.contextmanager
def lock_folder(folder: str, busy: str) -> Iterator[None]:
    """Holds an exclusive lock on an existing folder; the system drops it when this process ends.

    A remote folder cannot be locked, nor can some network disks, such as Lustre without `-o flock`.
    On such a disk a warning goes to stderr, and two runs at once are not noticed.

    Args:
      folder: the folder to lock.
      busy: error message for a folder that another run holds.

    Raises:
      UserError: another run holds it, or its lock file is not one of fv.
    """
    if is_remote(folder):
        yield
        return
    path = os.path.join(folder, LOCK_NAME)
    if os.path.exists(path) and os.path.getsize(path):
        raise UserError(f"{path} is not a lock of fv, which is empty: rename it")
    # Soft locks outlive a killed process, so a disk without locks goes without one.
    lock = filelock.FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise UserError(busy) from error
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        print(
            f"{path} cannot be locked ({error.strerror}): make sure that no other run writes there",
            file=sys.stderr,
        )
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)  # while it is locked: a later run would lose its own file
        lock.release()
