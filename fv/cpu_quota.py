"""How much CPU time a container may take, as `docker run --cpus=2` limits it."""

import math
import os

from fv import files

_FILES = (
    ("cpu.max",),
    ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
)  # quota and period in µs, of cgroup v2 and v1


def cores(root: str = "/sys/fs/cgroup") -> int | None:
    """Cores that the quota keeps busy, rounded up; None where there is none.

    Args:
      root: where control groups are mounted; a container sees its own there.
    """
    for names in _FILES:
        quota, period, *_ = (
            *" ".join(files.read_system_text(os.path.join(root, name)) for name in names).split(),
            "",
            "",
        )
        if quota.isdecimal() and period.isdecimal():  # neither "max" nor -1
            return max(1, math.ceil(int(quota) / int(period)))
    return None
