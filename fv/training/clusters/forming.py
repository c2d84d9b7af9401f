"""An end to the time that TensorFlow may take to reach other machines."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

_WATCH = """
import os, select, signal, sys
process, seconds, message = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
if not select.select([0], [], [], seconds)[0]:
    print(message, file=sys.stderr, flush=True)
    os.kill(process, signal.SIGKILL)
"""


@contextlib.contextmanager
def bounded(seconds: float, message: str) -> Iterator[None]:
    """Ends this process with a message if the block takes longer.

    TensorFlow 2.21 holds Python's lock and swallows SIGTERM while it waits for other workers, for up to an hour: neither a
    thread nor a signal's handler can end it, another process can. It ends by itself when this one does.
    """
    command = [
        sys.executable,
        "-S",
        "-c",
        _WATCH,
        str(os.getpid()),
        str(seconds),
        f"fv: error: {message}",
    ]
    watch = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        watch.stdin.close()
        watch.wait()
