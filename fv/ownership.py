"""Which files of a folder fv wrote. Only those may fv remove or replace, and only while their content is unchanged.

FOLDER/.fv/ is fv's own folder. The file `written.json` in it is its mark, and lists the files that fv wrote into FOLDER
with the SHA-256 of their bytes. Unfinished files are written into .fv/ and renamed when they are whole. A file is listed
before it gets its name, beside the content that it replaces: a process may be killed between any two of these steps.
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
UNCHECKED = "*"  # in place of a digest: the name alone tells, as for checkpoints, which are large
_KEY = "written by fv"
_SHOWN = 3  # names in a message
_WRITING = re.compile(r"writing-(?P<host>.+)-(?P<process>\d+)-\d+")
_numbers = itertools.count()
_active: set[str] = (
    set()
)  # what this process is writing: another one may have had its process id before


def claim(
    folder: str, names: Iterable[str], recognise: Callable[[str], bool] = lambda name: False
) -> None:
    """Checks that fv may replace these files of a folder; call it before anything is changed.

    Args:
      folder: need not be there.
      names: of files in it.
      recognise: whether a file that no version of fv listed is fv's by its content: earlier versions kept no list.

    Raises:
      UserError: one of the files is not fv's, or was changed since fv wrote it.
    """
    names = list(names)
    refuse_foreign(find_foreign(folder, names, recognise), folder)
    written = _load(folder)
    new = [name for name in names if name not in written and _is_there(os.path.join(folder, name))]
    if new:
        record_digests(folder, {name: files.sha256(os.path.join(folder, name)) for name in new})


def find_foreign(
    folder: str, names: Iterable[str], recognise: Callable[[str], bool] = lambda name: False
) -> list[str]:
    """Those of the files of a folder that fv may not replace; arguments as in `claim`."""
    written, foreign = _load(folder), []
    for name in names:
        path = os.path.join(folder, name)
        if (
            name not in written
            and files.exists(path)
            and not files.is_folder(path)
            and recognise(name)
        ):
            continue
        if _is_there(path) and not owns(folder, name):
            foreign.append(name)
    return foreign


def refuse_foreign(foreign: Sequence[str], folder: str) -> None:
    """Raises:
    UserError: there is a file in `foreign`, the names of files in `folder` that fv may not touch.
    """
    if foreign:
        more = f", … ({len(foreign):,} in all)" if len(foreign) > _SHOWN else ""
        raise UserError(
            f"{folder} holds files that fv did not write, or that were changed since: "
            f"{', '.join(foreign[:_SHOWN])}{more}; move them away, or give another folder"
        )


def owns(folder: str, name: str) -> bool:
    """Whether a file is there and is still what fv wrote."""
    path, digests = os.path.join(folder, name), _load(folder).get(name, ())
    if not digests or files.is_folder(path) or not files.exists(path):
        return False
    return UNCHECKED in digests or files.sha256(path) in digests


def listed_names(folder: str) -> Collection[str]:
    """Names of the files that fv wrote into a folder, those that are gone included."""
    return _load(folder).keys()


def record_digests(folder: str, digests: dict[str, str]) -> None:
    """Lists files before they are written, by name with SHA-256; the content that they have now stays listed too.

    So does what was listed last: another process may be about to write it, as where two evaluate a run at once.
    """
    private_folder(folder)
    if all(UNCHECKED in _load(folder).get(name, ()) for name in digests):
        return
    before = {
        name: [files.sha256(os.path.join(folder, name))] for name in digests if owns(folder, name)
    }
    with _locked(folder):
        listed = _load(folder)
        for name, digest in digests.items():
            kept = dict.fromkeys([*listed.get(name, ())[-1:], *before.get(name, ())])
            listed[name] = [*(other for other in kept if other != digest), digest]
        _save(folder, listed)


def remove(folder: str, names: Iterable[str]) -> None:
    """Removes files of fv's, and takes them off the list.

    Raises:
      UserError: one of them is not fv's.
    """
    there = [name for name in names if _is_there(os.path.join(folder, name))]
    refuse_foreign([name for name in there if not owns(folder, name)], folder)
    for name in there:
        files.remove(os.path.join(folder, name))
    forget(folder, there)


def forget(folder: str, names: Collection[str]) -> None:
    """Takes files that were removed off the list."""
    if _load(folder).keys() & set(names):
        with _locked(folder):
            _save(
                folder,
                {name: digests for name, digests in _load(folder).items() if name not in names},
            )


@contextlib.contextmanager
def staged(folder: str, names: Sequence[str]) -> Iterator[str]:
    """Gives an empty folder to write files into; when the block ends without an exception they move to `folder`.

    Args:
      folder: made where it is missing.
      names: of the files, in the order in which they appear; those that are not written are passed over.

    Raises:
      UserError: one of the files is there already and is not fv's.
    """
    with temporary_folder(folder) as temporary:
        yield temporary
        made = [name for name in names if files.exists(os.path.join(temporary, name))]
        claim(folder, made)
        record_digests(folder, {name: files.sha256(os.path.join(temporary, name)) for name in made})
        for name in made:
            files.rename(os.path.join(temporary, name), os.path.join(folder, name))


@contextlib.contextmanager
def atomic_open(path: str, mode: str = "w") -> Iterator[IO]:
    """As `fv.files.atomic_open`, for a file that is listed as fv's; the errors of `staged`."""
    folder, name = os.path.split(path)
    with (
        staged(folder, [name]) as temporary,
        files.atomic_open(os.path.join(temporary, name), mode) as file,
    ):
        yield file


def save_json(content: dict, path: str, indent: int = 2) -> None:
    """As `fv.files.save_json`, for a file that is listed as fv's; the errors of `staged`."""
    folder, name = os.path.split(path)
    with staged(folder, [name]) as temporary:
        files.save_json(content, os.path.join(temporary, name), indent)


def private_folder(folder: str) -> str:
    """The folder's .fv/, made with its mark where it is missing.

    Raises:
      UserError: there is one that is not fv's.
    """
    path = os.path.join(folder, PRIVATE)
    if not files.exists(os.path.join(path, RECORD)):
        _load(folder)
        files.make_folder(path)
        _save(folder, {})
    return path


def remove_private(folder: str, name: str) -> None:
    """Removes what lies in .fv/ under a name that only fv uses there."""
    with contextlib.suppress(UserError):  # it is not fv's
        _load(folder)
        files.remove_folder(os.path.join(folder, PRIVATE, name))


@contextlib.contextmanager
def temporary_folder(folder: str) -> Iterator[str]:
    """Gives an empty folder in .fv/ for unfinished files; what killed processes of this machine left there is removed."""
    remove_leftovers(folder)
    name = _temporary_name()
    path = os.path.join(private_folder(folder), name)
    files.make_folder(path)
    try:
        yield path
    finally:
        remove_private(folder, name)
        _active.discard(name)
        remove_leftovers(folder)


def remove_leftovers(folder: str) -> None:
    """Removes what killed processes of this machine left in .fv/, and .fv/ itself where it holds nothing any more."""
    path = os.path.join(folder, PRIVATE)
    if not files.exists(os.path.join(path, RECORD)):
        return
    for name in _names(path):
        match = _WRITING.fullmatch(name)
        if (
            match
            and match["host"] == platform.node()
            and name not in _active
            and not _runs_elsewhere(match["process"])
        ):
            left = os.path.join(path, name)
            (files.remove_folder if files.is_folder(left) else files.remove)(left)
    if _names(path) == [RECORD] and not _load(folder):
        files.remove(os.path.join(path, RECORD))
        if not files.is_remote(path):
            with contextlib.suppress(OSError):  # another process has just put something there
                os.rmdir(path)


def require_not_read(written: str | None, flag: str, inputs: Iterable[str]) -> None:
    """Checks that a file that a command writes is none of those that it reads.

    Raises:
      UserError: it is.
    """
    for path in inputs:
        if (
            written
            and os.path.exists(written)
            and os.path.exists(path)
            and os.path.samefile(written, path)
        ):
            raise UserError(
                f"--{flag}={written} is a file that this command reads: give another name"
            )


def _load(folder: str) -> dict[str, list[str]]:
    path = os.path.join(folder, PRIVATE)
    if not _is_there(path):
        return {}
    try:
        return dict(json.loads(files.read_bytes(os.path.join(path, RECORD)))[_KEY])
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError) as error:
        if files.is_folder(path) and all(map(_WRITING.fullmatch, _names(path))):
            return {}  # a process was killed while it made the folder
        raise UserError(
            f"{path} is not a folder that fv made: rename it, or give another folder"
        ) from error


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Keeps other processes from changing the list meanwhile: a run may be evaluated while it trains."""
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
    path, name = os.path.join(folder, PRIVATE), _temporary_name()
    with files.atomic_open(os.path.join(path, RECORD), temporary=os.path.join(path, name)) as file:
        json.dump({_KEY: written}, file, indent=1)
    _active.discard(name)


def _temporary_name() -> str:
    name = f"writing-{platform.node()}-{os.getpid()}-{next(_numbers)}"
    _active.add(name)
    return name


def _names(folder: str) -> list[str]:
    return [name.rstrip("/") for name in files.names(folder)]


def _is_there(path: str) -> bool:
    """Whether there is anything of that name, a link that leads nowhere included."""
    return files.exists(path) if files.is_remote(path) else os.path.lexists(path)


def _runs_elsewhere(process: str) -> bool:
    if int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
