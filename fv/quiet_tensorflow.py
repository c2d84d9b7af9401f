"""Imports TensorFlow without its start-up noise and in less time: entry points import this before what needs TensorFlow.

TensorFlow 2.21 writes a few lines straight to file descriptor 2 while it loads, even with TF_CPP_MIN_LOG_LEVEL=3, which `fv`
sets where the user has not. With a lower level everything is shown, as it is when the import fails.

TensorFlow's modules are some hundred thousand objects, none of them garbage. Python's collector goes through them again and
again while they are loaded and once more when the process ends: a fifth of the import, and a second or two of every exit.
"""

import atexit
import contextlib
import gc
import os
import sys
import tempfile
from collections.abc import Iterator

from fv import cli

QUIET_LEVEL = "3"  # of TF_CPP_MIN_LOG_LEVEL
STDERR = 2


@contextlib.contextmanager
def hold_back_stderr() -> Iterator[None]:
    """Keeps what is written to file descriptor 2, by C++ too, off the screen; shows it after all if the block raises."""
    sys.stderr.flush()
    screen = os.dup(STDERR)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), STDERR)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held.seek(0)
            os.write(screen, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(screen, STDERR)
            os.close(screen)


@contextlib.contextmanager
def _garbage_collection_disabled() -> Iterator[None]:
    """Keeps Python from looking for garbage in the block."""
    at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if at_work:
            gc.enable()


atexit.register(
    gc.freeze
)  # called behind all that is registered later; what is left then need not be gone through
try:
    quiet = os.environ["TF_CPP_MIN_LOG_LEVEL"] == QUIET_LEVEL
    with _garbage_collection_disabled(), hold_back_stderr() if quiet else contextlib.nullcontext():
        import tensorflow  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "tensorflow":
        raise
    print(
        f"fv: error: TensorFlow is not installed for {sys.executable}: pip install 'tensorflow==2.21.*'",
        file=sys.stderr,
    )
    sys.exit(cli.EXIT_ERROR)
