"""Worker processes that die with their parent, take their tasks a few at a time and answer in order."""

import collections
import contextlib
import functools
import itertools
import math
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import platform
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import process
from typing import TypeVar

import psutil

from fv import files
from fv.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
Map = Callable[[Callable[[Task], Result], Iterable[Task]], Iterator[Result]]

_TASKS_AHEAD = 2  # a worker; more only takes memory
_EXIT_ORPHAN = 1


@contextlib.contextmanager
def pool(count: int, preload: Sequence[str] = ()) -> Iterator[Map]:
    """A pool of `count` processes; when the block ends, with or without an exception, work not yet begun is dropped.

    Workers come from a fork server: a plain fork of a process with threads may deadlock, and a spawn of each takes half a
    second and its own copy of every import.

    Args:
      count: number of processes.
      preload: modules that are imported once and shared by every worker.

    Yields:
      A function that maps a module's function over picklable tasks, which are drawn only as they are needed, and yields the
      results in order. It raises UserError where a worker died, as when memory ran out.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    executor = futures.ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker)
    try:
        yield functools.partial(_map_ordered, executor, count)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def processor() -> str:
    """The processor's name."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def _map_ordered(
    executor: futures.ProcessPoolExecutor,
    count: int,
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
) -> Iterator[Result]:
    tasks, pending = iter(tasks), collections.deque()
    try:
        while True:
            room = count * _TASKS_AHEAD - len(pending)
            pending.extend(
                executor.submit(function, task) for task in itertools.islice(tasks, room)
            )
            if not pending:
                return
            yield pending.popleft().result()
    except process.BrokenProcessPool as error:
        raise UserError(
            "a worker process died, most often for want of memory: try fewer --workers"
        ) from error


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends the workers
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """Ends this process when its parent is gone, even by SIGKILL: an executor's orphans would wait for tasks for ever."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(_EXIT_ORPHAN)


# CPU and memory that this process may use: what the machine has, limited by the control group.

_CACHE_SHARE = 0.8  # of the available memory; batches, weights and other processes need the rest

_CGROUP = "/sys/fs/cgroup"  # a container sees its own there; below it files of cgroup v2 and v1
_CPU_FILES = (
    ("cpu.max",),
    ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
)  # quota, period in µs
_MEMORY_FILES = (  # limit, usage, statistics
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
_PAGE_CACHE = ("inactive_file", "total_inactive_file")  # counts as used, and is free to take


def available_cores(cgroup: str = _CGROUP) -> int:
    """Returns the number of cores that this process may use: its affinity, within the CPU quota."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # not on macOS
    allowed = len(affinity()) if affinity else psutil.cpu_count() or 1
    return min(allowed, _quota(cgroup) or allowed)


def available_memory(cgroup: str = _CGROUP) -> int:
    """Returns the bytes of memory that this process may still take."""
    return min([psutil.virtual_memory().available, *_memory_left(cgroup)])


def require_memory(flag: str, needed: int, held: str) -> None:
    """Checks that a cache fits into the available memory.

    Args:
      flag: the flag that asks for the cache.
      needed: bytes that the cache takes.
      held: what it holds.

    Raises:
      UserError: it does not fit.
    """
    left = available_memory()
    if needed > _CACHE_SHARE * left:
        figures = f"more than {_CACHE_SHARE:.0%} of the {_mebibytes(left)} available"
        advice = "use --cache=none, fewer pairs, smaller images or more input workers"
        raise UserError(f"{flag} needs {_mebibytes(needed)} for {held}, {figures}: {advice}")


def _quota(cgroup: str) -> int | None:
    """Cores that the quota keeps busy, rounded up; None without a quota."""
    for names in _CPU_FILES:
        quota, period, *_ = (*" ".join(_read(cgroup, names)).split(), "", "")
        if quota.isdecimal() and period.isdecimal():  # neither "max" nor -1
            return max(1, math.ceil(int(quota) / int(period)))
    return None


def _memory_left(cgroup: str) -> Iterator[int]:
    """Yields the bytes left in each control group that has a limit."""
    for names in _MEMORY_FILES:
        limit, usage, statistics = _read(cgroup, names)
        if limit.isdecimal() and usage.isdecimal():
            found = dict(line.split() for line in statistics.splitlines())
            page_cache = max(int(found.get(name, 0)) for name in _PAGE_CACHE)
            yield max(0, int(limit) - int(usage) + page_cache)


def _read(folder: str, names: tuple[str, ...]) -> list[str]:
    return [files.read_system_text(os.path.join(folder, name)).strip() for name in names]


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
