"""A folder that one run at a time may write into."""

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Iterator

from fv import files
from fv.errors import UserError

NAME = ".fv-lock"

_UNSUPPORTED = (
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOLCK,
)  # Lustre without -o flock, some NFS


@contextlib.contextmanager
def held(folder: str, busy: str) -> Iterator[None]:
    """Holds an exclusive lock on a folder, which the system drops when this process ends, however it ends.

    A remote folder cannot be locked, nor can some network disks, which is said on stderr: there, two runs at once are not
    noticed.

    Args:
      folder: it has to be there.
      busy: what to say where another run holds it.

    Raises:
      UserError: another run holds it.
    """
    if files.is_remote(folder):
        yield
        return
    path = os.path.join(folder, NAME)
    with open(path, "a+b") as file:
        if os.fstat(file.fileno()).st_size:
            raise UserError(f"{path} is not a lock of fv, which is empty: rename it")
        _lock(file.fileno(), path, busy)
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)


def _lock(file: int, path: str, busy: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(file), os.stat(path)):
            raise UserError(
                busy
            )  # a run that has just ended removed the file, and another made it anew
    except (BlockingIOError, FileNotFoundError) as error:
        raise UserError(busy) from error
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        print(
            f"{path} cannot be locked ({error.strerror}): see to it that no other run writes there",
            file=sys.stderr,
        )
