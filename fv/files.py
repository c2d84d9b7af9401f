"""Reads and writes files on local disks and, by `tf.io.gfile`, behind a scheme like gs://.

A file that is written here appears whole or not at all. A local path never loads TensorFlow, which
takes two seconds and 300 MB in each process.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import IO, NoReturn

import filelock

from fv.errors import UserError

LOCK_NAME = ".fv-lock"
TEMPORARY_SUFFIX = ".tmp-"
_READ_BYTES = 4 << 20
_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP)  # no file can have such a path
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # of network disks


def is_remote(path: str) -> bool:
    """Whether a path has a scheme, as gs://bucket/folder does."""
    return "://" in path


def read_bytes(path: str, offset: int = 0, length: int | None = None) -> bytes:
    """Reads up to `length` bytes of a file from `offset` on, by default to its end."""
    if is_remote(path):
        return _remote().read_bytes(path, offset, length)
    # os.open takes a third of the time of open(), which counts for small images.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(file, os.fstat(file).st_size if length is None else length, offset)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(file)


def open_bytes(path: str, buffering: int = -1) -> IO[bytes]:
    """Opens a file for reading; `buffering` is that of `open` and holds for local files."""
    return _remote().open_bytes(path) if is_remote(path) else open(path, "rb", buffering)


def size(path: str) -> int:
    """Returns the size of a file in bytes."""
    return _remote().size(path) if is_remote(path) else os.path.getsize(path)


def sha256(path: str) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open_bytes(path) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def exists(path: str) -> bool:
    """Whether a file or folder exists.

    Raises:
      OSError: this cannot be told: no permission, or a network disk that fails.
    """
    return _remote().exists(path) if is_remote(path) else _mode(path) is not None


def is_taken(path: str) -> bool:
    """Whether there is anything at a path, a broken link included; raises OSError as `exists`."""
    return _remote().exists(path) if is_remote(path) else _mode(path, follow=False) is not None


def is_folder(path: str) -> bool:
    """Whether a folder exists; raises OSError as `exists`."""
    return _remote().is_folder(path) if is_remote(path) else stat.S_ISDIR(_mode(path) or 0)


def is_file(path: str) -> bool:
    """Whether a regular file exists on a local disk; raises OSError as `exists`."""
    return stat.S_ISREG(_mode(path) or 0)


def _mode(path: str, follow: bool = True) -> int | None:
    """The mode of a local file or folder, None if there is none.

    os.path.exists is False for every error, so a network disk that fails would look empty.
    """
    try:
        return os.stat(path, follow_symlinks=follow).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a zero byte
        return None
    except OSError as error:
        if error.errno in _NO_PATH:
            return None
        raise


def names(folder: str) -> list[str]:
    """Returns the names in a folder, sorted."""
    return sorted(_remote().names(folder) if is_remote(folder) else os.listdir(folder))


def make_folder(path: str) -> None:
    """Makes a folder and its parents if they do not exist."""
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
    """Renames a file and replaces `target` if it exists."""
    if is_remote(target):
        _remote().rename(source, target)
    else:
        os.replace(source, target)


def remove_folder(path: str) -> None:
    """Removes a folder and its content; what cannot be removed stays."""
    if is_remote(path):
        _remote().remove_folder(path)
    else:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def atomic_open(path: str, mode: str = "w", temporary: str | None = None) -> Iterator[IO]:
    """Writes a temporary file and renames it to `path` when the block ends without an exception.

    A process that is killed meanwhile leaves `path` as it was.

    Args:
      path: file to write.
      mode: w or wb.
      temporary: path of the temporary file, on the same file system; by default a new one beside
        `path`.
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
    """Opens a new file beside `path`: an existing one of that name may be the user's."""
    name = first = f"{path}{TEMPORARY_SUFFIX}{os.getpid()}"
    number = 0
    while True:
        with contextlib.suppress(FileExistsError):
            return _open(name, mode.replace("w", "x"))
        number += 1
        name = f"{first}-{number}"


def _open(path: str, mode: str) -> IO:
    return open(path, mode, encoding=None if "b" in mode else "utf-8")


@contextlib.contextmanager
def lock_folder(folder: str, busy: str) -> Iterator[None]:
    """Holds an exclusive lock on an existing folder; the system drops it when this process ends.

    A remote folder is not locked. Some network disks have no locks, such as Lustre without
    `-o flock`; there a warning goes to stderr.

    Args:
      folder: folder to lock.
      busy: error message if another process holds the lock.

    Raises:
      UserError: another process holds the lock, or the lock file is not one of fv.
    """
    if is_remote(folder):
        yield
        return
    path = os.path.join(folder, LOCK_NAME)
    if exists(path) and os.path.getsize(path):
        raise UserError(f"{path} is not a lock of fv, which is empty: rename it")
    # A soft lock would outlive a killed process.
    lock = filelock.FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise UserError(busy) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        advice = "make sure that no other run writes there"
        print(f"{path} cannot be locked ({error.strerror}): {advice}", file=sys.stderr)
    try:
        yield
    finally:
        # Remove the file before the release: afterwards it may be another run's.
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        lock.release()


def to_json(content: object, indent: int | None = None) -> str:
    """Returns strict JSON (RFC 8259), which has no NaN and no infinity.

    Raises:
      UserError: a number is not finite; the message names its key.
    """
    try:
        return json.dumps(content, indent=indent, allow_nan=False)
    except ValueError as error:
        key = ".".join(map(str, _find_non_finite(content) or ("it",)))
        raise UserError(f"{key} is no finite number: report this with the command") from error


def _find_non_finite(content: object) -> tuple[object, ...] | None:
    """Returns the keys that lead to the first number that is not finite, None if all are finite."""
    if isinstance(content, float):
        return None if math.isfinite(content) else ()
    children: Iterable[tuple[object, object]] = ()
    if isinstance(content, dict | list | tuple):
        children = content.items() if isinstance(content, dict) else enumerate(content)
    found = ((key, _find_non_finite(child)) for key, child in children)
    return next(((key, *keys) for key, keys in found if keys is not None), None)


def save_json(content: dict, path: str, indent: int = 2) -> None:
    """Writes a strict JSON file atomically.

    Raises:
      UserError: a number is not finite; the message names its key.
    """
    try:
        text = to_json(content, indent)
    except UserError as error:
        raise UserError(f"{path} was not written: {error}") from error
    with atomic_open(path) as file:
        file.write(f"{text}\n")


def load_json(path: str) -> dict:
    """Reads a strict JSON file that holds an object.

    Raises:
      UserError: the file is not strict JSON, or holds no object.
    """
    return parse_json(read_bytes(path), path)


def parse_json(text: bytes | str, path: str) -> dict:
    """Parses text that was read from `path`, as `load_json` does."""

    def refuse(number: str) -> NoReturn:
        raise UserError(
            f"{path} holds {number}, which is no number in JSON: "
            "write the file again with the command that made it"
        )

    def parse_float(number: str) -> float:
        value = float(number)
        return value if math.isfinite(value) else refuse(number)  # 1e999

    try:
        content = json.loads(text, parse_constant=refuse, parse_float=parse_float)
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): it was cut short or changed") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds no JSON object: write it again with the command that made it"
        )
    return content


def _remote():
    from fv import remote  # loads TensorFlow

    return remote
