"""CPU and memory that this process may use: what the machine has, limited by the control group."""

import math
import os
from collections.abc import Iterator

import psutil

from fv import files
from fv.errors import UserError

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


def cores(cgroup: str = _CGROUP) -> int:
    """Returns the number of cores that this process may use: its affinity, within the CPU quota."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # not on macOS
    allowed = len(affinity()) if affinity else psutil.cpu_count() or 1
    return min(allowed, _quota(cgroup) or allowed)


def available_memory(cgroup: str = _CGROUP) -> int:
    """Returns the bytes of memory that this process may still take."""
    return min([psutil.virtual_memory().available, *_memory_left(cgroup)])


def check_fits(flag: str, needed: int, held: str) -> None:
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
