"""Lock on a folder that one run at a time may write to."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

import filelock

from fv import files
from fv.errors import UserError

NAME = ".fv-lock"

# Errors of network disks without locks
_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextlib.contextmanager
def held(folder: str, busy: str) -> Iterator[None]:
    """Holds an exclusive lock on an existing folder; the system drops it when this process ends.

    A remote folder cannot be locked, nor can some network disks, such as Lustre without `-o flock`.
    On such a disk a warning goes to stderr, and two runs at once are not noticed.

    Args:
      folder: the folder to lock.
      busy: error message for a folder that another run holds.

    Raises:
      UserError: another run holds it, or its lock file is not one of fv.
    """
    if files.is_remote(folder):
        yield
        return
    path = os.path.join(folder, NAME)
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
