"""Worker processes, and the processor cores and memory that this process may use."""

import collections
import contextlib
import functools
import itertools
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import process
from typing import TypeVar

import psutil

from fv.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
Map = Callable[[Callable[[Task], Result], Iterable[Task]], Iterator[Result]]

_TASKS_AHEAD = 2  # tasks submitted per worker; more would only take memory
_EXIT_ORPHAN = 1
_GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CACHE_SHARE = 0.8  # of the available memory; batches, weights and other processes need the rest

# A container sees its own control group here, with files of cgroup v2 or v1.
_CGROUP = "/sys/fs/cgroup"
_CPU_FILES = (  # quota and period in µs
    ("cpu.max",),
    ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
)
_MEMORY_FILES = (  # limit, usage, statistics
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
_PAGE_CACHE = ("inactive_file", "total_inactive_file")  # in the usage, but free to take


@contextlib.contextmanager
def block_group_signals() -> Iterator[None]:
    """Blocks SIGINT and SIGTERM for processes that the block starts, from their first instruction.

    Launchers signal a whole process group. The parent handles the signal; a child that ended first
    would look like a fault. See `ignore_group_signals`.
    """
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def ignore_group_signals() -> None:
    """Ignores SIGINT and SIGTERM in a process that was started under `block_group_signals`."""
    for number in _GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _GROUP_SIGNALS)


@contextlib.contextmanager
def pool(count: int, preload: Sequence[str] = ()) -> Iterator[Map]:
    """Starts worker processes; at the end of the block, tasks that have not begun are dropped.

    Args:
      count: number of processes.
      preload: modules that are imported once and shared by all workers.

    Yields:
      A function that maps a function of a module over picklable tasks and yields the results in
      order. It draws tasks as it needs them. It raises UserError if a worker dies, as it does when
      memory runs out.
    """
    # A fork of a process with threads may deadlock. A spawn takes half a second and imports
    # everything again in each worker.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    executor = futures.ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker)
    try:
        yield functools.partial(_map_ordered, executor, count)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _map_ordered(
    executor: futures.ProcessPoolExecutor,
    count: int,
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
) -> Iterator[Result]:
    remaining = iter(tasks)
    pending: collections.deque[futures.Future[Result]] = collections.deque()
    try:
        while True:
            room = count * _TASKS_AHEAD - len(pending)
            for task in itertools.islice(remaining, room):
                pending.append(executor.submit(function, task))
            if not pending:
                return
            yield pending.popleft().result()
    except process.BrokenProcessPool as error:
        raise UserError(
            "a worker process died, most often because memory ran out: use fewer --workers"
        ) from error


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends the workers
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Ends this process when its parent dies, even by SIGKILL; it would wait for tasks forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(_EXIT_ORPHAN)


def available_cores(cgroup: str = _CGROUP) -> int:
    """Returns the number of cores that this process may use: its affinity, within the CPU quota."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # not on macOS
    allowed = len(affinity()) if affinity else psutil.cpu_count() or 1
    for names in _CPU_FILES:
        quota, period, *_ = (*" ".join(_read_texts(cgroup, names)).split(), "", "")
        if quota.isdecimal() and period.isdecimal():  # no quota is "max" or -1
            return min(allowed, max(1, math.ceil(int(quota) / int(period))))
    return allowed


def available_memory(cgroup: str = _CGROUP) -> int:
    """Returns the bytes of memory that this process may still take."""
    left = [psutil.virtual_memory().available]
    for names in _MEMORY_FILES:
        limit, usage, statistics = _read_texts(cgroup, names)
        if limit.isdecimal() and usage.isdecimal():
            values = dict(line.split() for line in statistics.splitlines())
            page_cache = max(int(values.get(name, 0)) for name in _PAGE_CACHE)
            left.append(max(0, int(limit) - int(usage) + page_cache))
    return min(left)


def require_memory(flag: str, needed: int, content: str) -> None:
    """Checks that a cache fits into the available memory.

    Args:
      flag: the flag that asks for the cache.
      needed: bytes that the cache takes.
      content: what it holds, for the message.

    Raises:
      UserError: it does not fit.
    """
    left = available_memory()
    if needed > _CACHE_SHARE * left:
        limit = f"more than {_CACHE_SHARE:.0%} of the {left / 2**20:,.0f} MiB available"
        raise UserError(
            f"{flag} needs {needed / 2**20:,.0f} MiB for {content}, {limit}: "
            "use --cache=none, fewer pairs, smaller images or more input workers"
        )


def _read_texts(folder: str, names: Sequence[str]) -> list[str]:
    return [_read_text(os.path.join(folder, name)).strip() for name in names]


def _read_text(path: str) -> str:
    """Reads a file of the kernel, "" if there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
