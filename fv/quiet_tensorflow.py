"""Imports TensorFlow without start-up noise; entry points import this module first.

TensorFlow 2.21 writes to file descriptor 2 while it loads, even with TF_CPP_MIN_LOG_LEVEL=3, which
`fv` sets by default. With a lower level, or if the import fails, everything is shown.
"""

import atexit
import contextlib
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import TypeVar

from fv import cli
from fv.errors import UserError

_QUIET_LEVEL = "3"  # of TF_CPP_MIN_LOG_LEVEL
_STDERR = 2

Answer = TypeVar("Answer")


@contextlib.contextmanager
def hold_back_stderr() -> Iterator[None]:
    """Hides what is written to file descriptor 2, by C++ too; shows it if the block raises."""
    sys.stderr.flush()
    screen = os.dup(_STDERR)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), _STDERR)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held.seek(0)
            os.write(screen, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(screen, _STDERR)
            os.close(screen)


def call_quietly(call: Callable[..., Answer], *arguments) -> Answer:
    """Calls a function without what libjpeg writes to stderr about a damaged file.

    The UserError says it in one line. For commands only: file descriptor 2 belongs to the whole
    process. Any other exception shows stderr after all.
    """
    with hold_back_stderr():
        try:
            return call(*arguments)
        except UserError as error:
            failure = error
    raise failure


@contextlib.contextmanager
def _garbage_collection_disabled() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# TensorFlow makes some hundred thousand objects, none of them garbage. Collecting takes a fifth of
# the import, and one to two seconds when the process ends: hooks registered later run before this.
atexit.register(gc.freeze)
try:
    quiet = os.environ["TF_CPP_MIN_LOG_LEVEL"] == _QUIET_LEVEL
    with _garbage_collection_disabled(), hold_back_stderr() if quiet else contextlib.nullcontext():
        import tensorflow  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "tensorflow":
        raise
    print(
        f"fv: error: TensorFlow is not installed for {sys.executable}: "
        "pip install 'tensorflow==2.21.*'",
        file=sys.stderr,
    )
    sys.exit(cli.EXIT_ERROR)
