"""Shows the progress of long work on stderr: a bar on a terminal, log lines elsewhere."""

import logging as python_logging
import os
import sys
import time

import tqdm
from absl import logging

_LINE_SECONDS = 30.0  # between two log lines of the same work
_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
# disable=None: no bar where stderr is not a terminal.
_BAR = dict(disable=None, dynamic_ncols=True, mininterval=0.5)


class _Formatter(python_logging.Formatter):
    """Formats a line as 'hours:minutes:seconds message', with the level from a warning on."""

    def __init__(self):
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: python_logging.LogRecord) -> str:
        if record.levelno >= python_logging.WARNING:
            record.message = f"{record.levelname.lower()}: {record.message}"
        return super().formatMessage(record)


class _LogHandler(python_logging.Handler):
    """Writes log lines to stderr above the bars."""

    def filter(self, record: python_logging.LogRecord) -> bool:
        """Hides what is below a warning and not of fv: TensorFlow logs every checkpoint."""
        return record.levelno >= python_logging.WARNING or record.pathname.startswith(_PACKAGE)

    def emit(self, record: python_logging.LogRecord) -> None:
        tqdm.tqdm.write(self.format(record), file=sys.stderr)


def start_logging() -> None:
    """Shows `absl.logging.info` of fv and all warnings on stderr; entry points call it once."""
    logger = logging.get_absl_logger()
    logging.set_verbosity(logging.INFO)
    if not any(isinstance(handler, _LogHandler) for handler in logger.handlers):
        handler = _LogHandler()
        handler.setFormatter(_Formatter())
        logger.addHandler(handler)
        logger.propagate = False  # a handler of another library would show each line again


class Progress(tqdm.tqdm):
    """The progress of long work on stderr: a bar on a terminal, else a log line every 30 s."""

    def __init__(self, total: int, what: str, unit: str, initial: int = 0):
        """Args:
        total: number of units.
        what: short name of the work, at the start of the line.
        unit: name of one unit, as in 'image'.
        initial: units done by an earlier run.
        """
        super().__init__(total=total, desc=what, unit=f" {unit}", initial=initial, **_BAR)
        self._what, self._unit, self._first = what, unit, initial
        self._began = self._logged = time.monotonic()

    def update(self, n: float | None = 1) -> bool | None:
        """Counts `n` more units."""
        if not self.disable:
            return super().update(n)
        self.n += n
        now = time.monotonic()
        if now - self._logged >= _LINE_SECONDS:
            self._logged = now
            rate = (self.n - self._first) / (now - self._began)
            left = f", {time_left((self.total - self.n) / rate)}" if rate else ""
            share = f" of {self.total:,} ({self.n / self.total:.0%})" if self.total else ""
            logging.info(
                "%s: %s%s, %.1f %s/s%s", self._what, f"{self.n:,}", share, rate, self._unit, left
            )
        return None


def bar(total: int, what: str, unit: str, initial: int = 0) -> tqdm.tqdm:
    """As `Progress`, but shows nothing without a terminal: for work that logs its own lines."""
    return tqdm.tqdm(total=total, desc=what, unit=f" {unit}", initial=initial, **_BAR)


def time_left(seconds: float) -> str:
    """Formats a duration, as in '04:10 left'."""
    return f"{tqdm.tqdm.format_interval(max(0.0, seconds))} left"
