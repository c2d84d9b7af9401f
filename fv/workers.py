"""Worker processes that die with their parent, take their tasks a few at a time and answer in order."""

import collections
import contextlib
import functools
import itertools
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

from fv import resources
from fv.errors import UserError

cores = resources.cores
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
