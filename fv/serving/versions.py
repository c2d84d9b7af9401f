"""Version folders: written under a name that servers pass over, renamed when whole, the oldest removed."""

import contextlib
import os
import shutil
from collections.abc import Iterator

from fv.errors import UserError

_WRITING, _REMOVING = "writing-", "removing-"  # no integers, so TensorFlow Serving passes them over


@contextlib.contextmanager
def new_version(output: str) -> Iterator[str]:
    """Makes a folder to fill, which becomes the next version when the block ends without an exception.

    What killed exports left in `output` is removed first.

    Args:
      output: folder of versions; made where it is missing.

    Yields:
      The folder, under its temporary name.
    """
    os.makedirs(output, exist_ok=True)
    _remove_leftovers(output)
    temporary = os.path.join(output, f"{_WRITING}{os.getpid()}")
    try:
        os.mkdir(temporary)
        yield temporary
        _publish(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def versions(output: str) -> list[int]:
    """The versions in a folder, rising."""
    return sorted(int(name) for name in os.listdir(output) if name.isdecimal())


def remove_oldest(output: str, keep: int) -> None:
    """Removes all but the last `keep` versions; 0 keeps all. Each vanishes at once: a server never sees half of one."""
    for version in versions(output)[:-keep] if keep else []:
        doomed = os.path.join(output, f"{_REMOVING}{os.getpid()}")
        os.rename(os.path.join(output, str(version)), doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def latest(path: str) -> str:
    """The version folder itself, or the highest version in a folder of versions.

    Raises:
      UserError: neither.
    """
    if os.path.exists(os.path.join(path, "saved_model.pb")):
        return path
    held = versions(path) if os.path.isdir(path) else []
    if not held:
        raise UserError(f"{path} holds no SavedModel: give a version folder that fv.export wrote, such as export/1")
    return os.path.join(path, str(held[-1]))


def _publish(temporary: str, output: str) -> None:
    """Renames to the next free integer; another export may have taken it since."""
    while True:
        version = os.path.join(output, str(max(versions(output), default=0) + 1))
        try:
            os.rename(temporary, version)
            return
        except OSError:
            if not os.path.exists(version):
                raise


def _remove_leftovers(output: str) -> None:
    for name in os.listdir(output):
        prefix, _, number = name.rpartition("-")
        if f"{prefix}-" in (_WRITING, _REMOVING) and number.isdecimal() and not _runs_elsewhere(int(number)):
            shutil.rmtree(os.path.join(output, name), ignore_errors=True)


def _runs_elsewhere(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
