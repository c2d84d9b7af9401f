"""The machine that a figure was measured on, and the memory that a process takes."""

import os
import pathlib
import platform
import resource
from importlib import metadata

from fv import metering, workers

PACKAGES = ("tensorflow", "tf_keras", "simplejpeg", "opencv-python-headless", "pillow", "torch")


def describe() -> dict:
    """Returns cores, processor, Python, load before the first run, and versions of packages."""
    return {
        "cores": workers.available_cores(),
        "processor": _processor(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def memory_bytes() -> int:
    """Returns the PSS of this process and all below it; without /proc, its peak memory."""
    if not pathlib.Path("/proc/self/smaps_rollup").exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return sum(map(_proportional_bytes, (os.getpid(), *metering.descendants(os.getpid()))))


def _processor() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.machine())


def _proportional_bytes(pid: int) -> int:
    try:
        lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:  # it has just ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
