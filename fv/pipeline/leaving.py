"""A clean end of the process while tf.data still calls Python: its threads must be out of the interpreter before that ends.

A thread of TensorFlow that asks for the interpreter's lock while the interpreter is being taken down never returns, and the
iterator that waits for it hangs the process: without this, every other run that ended with a full pipeline did.
"""

import atexit
import threading
import time

_QUIET_SECONDS = (
    0.1  # without a call, after which the pipeline's buffers are full and it makes no more
)
_MOST_SECONDS = 5.0


class Calls:
    """The calls that tf.data makes of Python: `with calls:` around the work of each."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running, self._last, self._leaving = 0, 0.0, False

    def __enter__(self) -> None:
        with self._lock:
            if self._leaving:
                self._last = time.monotonic()
                raise RuntimeError("the process is ending")
            self._running += 1

    def __exit__(self, *exception) -> None:
        with self._lock:
            self._running -= 1
            self._last = time.monotonic()

    def leave(self) -> None:
        """Refuses further calls and waits until there are none."""
        self._leaving = True
        deadline = time.monotonic() + _MOST_SECONDS
        while time.monotonic() < deadline and (
            self._running or time.monotonic() - self._last < _QUIET_SECONDS
        ):
            time.sleep(_QUIET_SECONDS / 10)


calls = Calls()
atexit.register(calls.leave)
