"""Measures images per second, and per second of CPU time, of anything that yields batches."""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterator

_CPU_FIELDS = slice(11, 13)  # utime and stime in /proc/PID/stat, after the name (man 5 proc)


@dataclasses.dataclass(frozen=True)
class Rate:
    """A measurement.

    Attributes:
      images: number of images.
      seconds: wall time.
      cpu_seconds: CPU time of this process and its descendants.
    """

    images: int
    seconds: float
    cpu_seconds: float

    @property
    def images_per_s(self) -> float:
        """Images per second of wall time."""
        return self.images / self.seconds

    @property
    def images_per_cpu_s(self) -> float:
        """Images per second of CPU time: what one busy core delivers."""
        return self.images / max(self.cpu_seconds, 1e-9)


def measure(
    batches: Iterator,
    images_in: Callable,
    *,
    seconds: float,
    warm_up_s: float = 0.0,
    warm_up_images: int = 0,
) -> Rate:
    """Measures how fast batches come.

    Args:
      batches: endless.
      images_in: returns the number of images in a batch.
      seconds: for how long, at least one batch.
      warm_up_s: seconds before, which do not count: buffers fill and tf.data tunes itself.
      warm_up_images: images before, such as an epoch that fills a cache; the longer warm-up holds.
    """
    _draw(batches, images_in, warm_up_s, warm_up_images)
    cpu, start = cpu_seconds(), time.perf_counter()
    images = _draw(batches, images_in, seconds, 1)
    return Rate(images, time.perf_counter() - start, cpu_seconds() - cpu)


def _draw(batches: Iterator, images_in: Callable, seconds: float, images: int) -> int:
    end, drawn = time.perf_counter() + seconds, 0
    while drawn < images or time.perf_counter() < end:
        drawn += images_in(next(batches))
    return drawn


def cpu_seconds() -> float:
    """Returns the CPU time of this process, its ended children and, on Linux, its descendants."""
    return sum(os.times()[:4]) + sum(map(_cpu_seconds_of, descendants(os.getpid())))


def descendants(pid: int) -> Iterator[int]:
    """Yields the living children of a process, theirs, and so on; Linux only."""
    # Each thread has the children that it forked.
    for thread in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, _read(thread).split()):
            yield child
            yield from descendants(child)


def _cpu_seconds_of(pid: int) -> float:
    fields = _read(pathlib.Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[_CPU_FIELDS])) / os.sysconf("SC_CLK_TCK")


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has just ended
        return ""
