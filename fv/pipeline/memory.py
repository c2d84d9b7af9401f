"""Memory that this process may still take."""

import os

from fv import files
from fv.errors import UserError

_SHARE = 0.8  # of it that a cache may take; the rest is for batches, weights and whatever else runs
_MEMINFO = "/proc/meminfo"
_GROUP_FILES = (  # limit, usage and the statistics that name the page cache, in cgroup v2 and v1
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
_RECLAIMABLE = ("inactive_file", "total_inactive_file")


def available(root: str = "/sys/fs/cgroup") -> int | None:
    """Bytes left to this process: the least of what the machine and its control group have; None where neither says.

    Args:
      root: where control groups are mounted; a container sees its own there.
    """
    figures = [
        _of_machine(),
        *(_of_group(*(os.path.join(root, name) for name in names)) for names in _GROUP_FILES),
    ]
    return min((figure for figure in figures if figure is not None), default=None)


def check_fits(flag: str, needed: int, held: str) -> None:
    """Checks that so many bytes can be held.

    Raises:
      UserError: they cannot, with both figures.
    """
    left = available()
    if left is not None and needed > _SHARE * left:
        figures = f"{_mebibytes(needed)} for {held}, more than {_SHARE:.0%} of the {_mebibytes(left)} available"
        raise UserError(
            f"{flag} needs {figures}: use --cache=none, fewer pairs, smaller images or more input workers"
        )


def _of_machine() -> int | None:
    fields = dict(line.split(":", 1) for line in files.read_system_text(_MEMINFO).splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def _of_group(limit_file: str, usage_file: str, statistics_file: str) -> int | None:
    limit, usage = (
        files.read_system_text(limit_file).strip(),
        files.read_system_text(usage_file).strip(),
    )
    if not (limit.isdecimal() and usage.isdecimal()):
        return None  # no such group, or "max"
    statistics = dict(line.split() for line in files.read_system_text(statistics_file).splitlines())
    page_cache = max(int(statistics.get(name, 0)) for name in _RECLAIMABLE)
    return max(0, int(limit) - int(usage) + page_cache)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
