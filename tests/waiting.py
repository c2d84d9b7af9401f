"""Waiting for what another thread or process does, on a machine that may be busy."""

import time
from collections.abc import Callable

LONGEST_S = 20.0


def until(done: Callable[[], bool]) -> None:
    """Returns as soon as `done()` is true; fails after `LONGEST_S`."""
    deadline = time.monotonic() + LONGEST_S
    while not done():
        assert time.monotonic() < deadline, f"not within {LONGEST_S:.0f} seconds"
        time.sleep(0.01)
