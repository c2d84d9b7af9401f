"""Memory of a process and of all that it started."""

import os
import pathlib
import resource

from fv import metering

_KIB = 1024


def bytes_now() -> int:
    """What this process and all below it share out among them (PSS); outside Linux, the most that this one ever held."""
    if not pathlib.Path("/proc/self/smaps_rollup").exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
    return sum(map(_proportional_bytes, (os.getpid(), *metering.living_below(os.getpid()))))


def _proportional_bytes(pid: int) -> int:
    try:
        lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:  # it has just ended
        return 0
    return sum(int(line.split()[1]) * _KIB for line in lines if line.startswith("Pss:"))
