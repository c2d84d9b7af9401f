"""SIGTERM and SIGINT during training: the first asks to save and leave, the second leaves at once."""

import os
import signal
import sys
import threading
import time

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ECHO_SECONDS = 1.0  # `timeout` and launchers signal a process and its group: what follows at once is the same request
_EXIT_SIGNAL = 128  # plus the signal's number, as shells report it


class Interruption:
    """Whether this process was asked to stop; it listens while it is entered, and only in the main thread.

    Python calls a signal's handler between two lines of Python, which a call into TensorFlow delays by seconds. A thread
    reads the signals' numbers instead, and so the second signal works at any moment.
    """

    def __init__(self):
        self.requested = False
        self._listens = threading.current_thread() is threading.main_thread()
        self._handlers, self._wakeup, self._pipe = {}, -1, (-1, -1)

    def __enter__(self) -> "Interruption":
        if self._listens:
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            self._handlers = {number: signal.signal(number, _do_nothing) for number in _SIGNALS}
            threading.Thread(target=self._read_signals, args=(self._pipe[0],), daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        """Gives the signals back to whom they were before."""
        if self._listens:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            os.close(self._pipe[1])  # ends the thread

    def _read_signals(self, pipe: int) -> None:
        first = None
        while number := os.read(pipe, 1):
            if number[0] not in _SIGNALS:
                continue
            if first is None:
                first, self.requested = time.monotonic(), True
                name = signal.Signals(number[0]).name
                print(
                    f"{name}: saves and leaves after this step; again leaves at once",
                    file=sys.stderr,
                    flush=True,
                )
            elif time.monotonic() - first > _ECHO_SECONDS:
                os._exit(_EXIT_SIGNAL + number[0])
        os.close(pipe)


def _do_nothing(number: int, frame: object) -> None:
    """The thread has been told already."""
