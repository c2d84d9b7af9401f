"""Records which files of a folder fv wrote; fv removes and replaces only those, if unchanged.

FOLDER/.fv/ belongs to fv. Its file written.json lists the files that fv wrote into FOLDER, with the
SHA-256 of their content. Unfinished files are written in .fv/ and renamed when they are complete. A
file is listed before it is renamed, beside the content that it replaces: the process may be killed
between any two steps.
"""

import contextlib
import fcntl
import itertools
import json
import os
import platform
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import IO

from fv import files
from fv.errors import UserError

PRIVATE = ".fv"
RECORD = "written.json"
UNCHECKED = "*"  # in place of a digest: any content counts, as for checkpoints, which are large
_KEY = "written by fv"
_SHOWN = 3  # names in a message
_TEMPORARY_NAME = re.compile(r"writing-(?P<host>.+)-(?P<process>\d+)-\d+")
_numbers = itertools.count()
_active: set[str] = set()  # of this process; an earlier process may have had the same id


def claim(
    folder: str, names: Iterable[str], recognise: Callable[[str], bool] = lambda name: False
) -> None:
    """Checks that fv may replace files; call it before anything is changed.

    Args:
      folder: may be missing.
      names: files in it.
      recognise: whether a file that is not listed is fv's, as in a copy of a folder without .fv/.

    Raises:
      UserError: one of the files is not fv's, or was changed since fv wrote it.
    """
    names = list(names)
    refuse_foreign(find_foreign(folder, names, recognise), folder)
    written = _load(folder)
    new = [
        name for name in names if name not in written and files.is_taken(os.path.join(folder, name))
    ]
    if new:
        record_digests(folder, _digests(folder, new))


def find_foreign(
    folder: str, names: Iterable[str], recognise: Callable[[str], bool] = lambda name: False
) -> list[str]:
    """Returns the files that fv may not replace; arguments as for `claim`."""
    written = _load(folder)

    def is_recognised(name: str) -> bool:
        path = os.path.join(folder, name)
        is_file = files.exists(path) and not files.is_folder(path)
        return name not in written and is_file and recognise(name)

    return [
        name
        for name in names
        if files.is_taken(os.path.join(folder, name))
        and not (is_recognised(name) or owns(folder, name))
    ]


def refuse_foreign(foreign: Sequence[str], folder: str) -> None:
    """Raises UserError if there are files that fv may not touch.

    Args:
      foreign: their names in `folder`.
      folder: for the message.
    """
    if foreign:
        more = f", … ({len(foreign):,} in all)" if len(foreign) > _SHOWN else ""
        raise UserError(
            f"{folder} holds files that fv did not write, or that were changed since: "
            f"{', '.join(foreign[:_SHOWN])}{more}; move them away, or give another folder"
        )


def owns(folder: str, name: str) -> bool:
    """Whether a file exists and holds what fv wrote."""
    path, digests = os.path.join(folder, name), _load(folder).get(name, ())
    if not digests or files.is_folder(path) or not files.exists(path):
        return False
    return UNCHECKED in digests or files.sha256(path) in digests


def listed_names(folder: str) -> Collection[str]:
    """Returns the names of the files that fv wrote into a folder; some may be gone."""
    return _load(folder).keys()


def record_digests(folder: str, digests: dict[str, str]) -> None:
    """Lists files before they are written.

    The present content stays listed, and so does the entry before: another process may be about to
    write it, as when two evaluate a run at once.

    Args:
      folder: is made if it is missing.
      digests: SHA-256 or `UNCHECKED` by name.
    """
    private_folder(folder)
    if all(UNCHECKED in _load(folder).get(name, ()) for name in digests):
        return
    before = _digests(folder, [name for name in digests if owns(folder, name)])
    with _locked(folder):
        listed = _load(folder)
        for name, digest in digests.items():
            kept = [*listed.get(name, ())[-1:], before.get(name)]
            others = (other for other in kept if other not in (None, digest))
            listed[name] = [*dict.fromkeys(others), digest]
        _save(folder, listed)


def remove(folder: str, names: Iterable[str]) -> None:
    """Removes files and their entries; missing ones are passed over.

    Raises:
      UserError: one of them is not fv's; none is removed.
    """
    found = [name for name in names if files.is_taken(os.path.join(folder, name))]
    refuse_foreign([name for name in found if not owns(folder, name)], folder)
    for name in found:
        files.remove(os.path.join(folder, name))
    forget(folder, found)


def forget(folder: str, names: Collection[str]) -> None:
    """Removes the entries of files."""
    if _load(folder).keys() & set(names):
        with _locked(folder):
            listed = _load(folder)
            _save(folder, {name: digests for name, digests in listed.items() if name not in names})


@contextlib.contextmanager
def staged(folder: str, names: Sequence[str]) -> Iterator[str]:
    """Yields an empty folder; files in it move to `folder` if the block raises no exception.

    Args:
      folder: is made if it is missing.
      names: files, in the order in which they move; those that were not written are passed over.

    Raises:
      UserError: one of the files exists in `folder` and is not fv's.
    """
    with temporary_folder(folder) as temporary:
        yield temporary
        made = [name for name in names if files.exists(os.path.join(temporary, name))]
        claim(folder, made)
        record_digests(folder, _digests(temporary, made))
        for name in made:
            files.rename(os.path.join(temporary, name), os.path.join(folder, name))


@contextlib.contextmanager
def atomic_open(path: str, mode: str = "w") -> Iterator[IO]:
    """As `fv.files.atomic_open`, and lists the file; raises what `staged` raises."""
    folder, name = os.path.split(path)
    with (
        staged(folder, [name]) as temporary,
        files.atomic_open(os.path.join(temporary, name), mode) as file,
    ):
        yield file


def save_json(content: dict, path: str, indent: int = 2) -> None:
    """As `fv.files.save_json`, and lists the file; raises what `staged` raises."""
    folder, name = os.path.split(path)
    with staged(folder, [name]) as temporary:
        files.save_json(content, os.path.join(temporary, name), indent)


def private_folder(folder: str) -> str:
    """Returns the path of the folder's .fv/, which is made if it is missing.

    Raises:
      UserError: there is a .fv that is not fv's.
    """
    path = os.path.join(folder, PRIVATE)
    if not files.exists(os.path.join(path, RECORD)):
        _load(folder)
        files.make_folder(path)
        _save(folder, {})
    return path


def remove_private(folder: str, name: str) -> None:
    """Removes a folder in .fv/, if .fv/ is fv's."""
    with contextlib.suppress(UserError):
        _load(folder)
        files.remove_folder(os.path.join(folder, PRIVATE, name))


@contextlib.contextmanager
def temporary_folder(folder: str) -> Iterator[str]:
    """Yields an empty folder in .fv/ for unfinished files, and removes it at the end."""
    remove_leftovers(folder)
    name = _make_temporary_name()
    path = os.path.join(private_folder(folder), name)
    files.make_folder(path)
    try:
        yield path
    finally:
        remove_private(folder, name)
        _active.discard(name)
        remove_leftovers(folder)


def remove_leftovers(folder: str) -> None:
    """Removes what killed processes of this machine left in .fv/, and .fv/ if it is empty."""
    path = os.path.join(folder, PRIVATE)
    if not files.exists(os.path.join(path, RECORD)):
        return
    for name in _names(path):
        match = _TEMPORARY_NAME.fullmatch(name)
        is_local = match and match["host"] == platform.node()
        if match and is_local and name not in _active and not _is_running(int(match["process"])):
            left = os.path.join(path, name)
            (files.remove_folder if files.is_folder(left) else files.remove)(left)
    if _names(path) == [RECORD] and not _load(folder):
        files.remove(os.path.join(path, RECORD))
        if not files.is_remote(path):
            with contextlib.suppress(OSError):  # another process has just written there
                os.rmdir(path)


def require_not_read(written: str | None, flag: str, inputs: Iterable[str]) -> None:
    """Checks that a command does not write to one of its inputs.

    Raises:
      UserError: it would; the message names the flag.
    """
    if written and files.exists(written):
        for path in inputs:
            if files.exists(path) and os.path.samefile(written, path):
                raise UserError(
                    f"--{flag}={written} is a file that this command reads: give another name"
                )


def require_new(path: str | None, flag: str) -> None:
    """Checks that an output does not exist yet.

    Raises:
      UserError: it exists; the message names the flag.
    """
    if path and files.exists(path):
        raise UserError(f"--{flag}={path} exists: remove it, or give another name")


def _digests(folder: str, names: Iterable[str]) -> dict[str, str]:
    return {name: files.sha256(os.path.join(folder, name)) for name in names}


def _load(folder: str) -> dict[str, list[str]]:
    path = os.path.join(folder, PRIVATE)
    if not files.is_taken(path):
        return {}
    try:
        return dict(json.loads(files.read_bytes(os.path.join(path, RECORD)))[_KEY])
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError) as error:
        if files.is_folder(path) and all(map(_TEMPORARY_NAME.fullmatch, _names(path))):
            return {}  # a process was killed while it made the folder
        raise UserError(
            f"{path} is not a folder that fv made: rename it, or give another folder"
        ) from error


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Locks the list: a run may be evaluated while it trains."""
    if files.is_remote(folder):
        yield
        return
    descriptor = os.open(os.path.join(folder, PRIVATE), os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network disks have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _save(folder: str, written: dict[str, list[str]]) -> None:
    path, name = os.path.join(folder, PRIVATE), _make_temporary_name()
    with files.atomic_open(os.path.join(path, RECORD), temporary=os.path.join(path, name)) as file:
        json.dump({_KEY: written}, file, indent=1)
    _active.discard(name)


def _make_temporary_name() -> str:
    name = f"writing-{platform.node()}-{os.getpid()}-{next(_numbers)}"
    _active.add(name)
    return name


def _names(folder: str) -> list[str]:
    return [name.rstrip("/") for name in files.names(folder)]


def _is_running(process: int) -> bool:
    """Whether there is such a process beside this one, whose files are in `_active`."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
