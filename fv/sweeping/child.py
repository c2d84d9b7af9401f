"""One child process after the other, each of which hears the signals that its parent does."""

import dataclasses
import os
import resource
import signal
import subprocess
import time
from collections.abc import Sequence

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_TAIL_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
      code: its exit code, as shells report it: 128 and the signal's number where one killed it.
      wall_seconds: from start to end.
      cpu_seconds: of the child and its children.
      said: the last line that it wrote.
    """

    code: int
    wall_seconds: float
    cpu_seconds: float
    said: str


class Children:
    """Runs commands while it is entered, and hands SIGTERM and SIGINT on to the one that runs; main thread only.

    Attributes:
      stopped: whether such a signal came; nothing is started any more then.
    """

    def __init__(self):
        self.stopped = False
        self._process, self._handlers = None, {}

    def __enter__(self) -> "Children":
        self._handlers = {number: signal.signal(number, self._hand_on) for number in _SIGNALS}
        return self

    def __exit__(self, *exception) -> None:
        """Gives the signals back to whom they were before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str], log: str) -> Ended:
        """Runs a command to its end and adds what it writes to the file `log`."""
        began, spent = time.perf_counter(), _cpu_seconds()
        with open(log, "ab") as file:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )
            if self.stopped:  # between the last look at it and the start
                self._process.terminate()
            code = self._process.wait()
        self._process = None
        code = code if code >= 0 else 128 - code
        return Ended(code, time.perf_counter() - began, _cpu_seconds() - spent, _last_line(log))

    def _hand_on(self, number: int, frame: object) -> None:
        self.stopped = True
        if self._process is not None:
            self._process.send_signal(number)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _last_line(path: str) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
