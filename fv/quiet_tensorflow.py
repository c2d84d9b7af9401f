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
from collections.abc import Iterator

from fv import cli

_QUIET_LEVEL = "3"  # of TF_CPP_MIN_LOG_LEVEL
_STDERR = 2


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
