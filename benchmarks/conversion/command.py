"""The converter as a user runs it, watched from outside."""

import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLE_S = 0.05  # between two looks at memory
KB = 1024


def start(flags: list[str], **options) -> subprocess.Popen:
    """Starts tools/make_tfrecords.py in a group of processes of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "tools" / "make_tfrecords.py", *flags]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True, **options
    )


def run(flags: list[str]) -> tuple[float, int]:
    """Runs a conversion; returns its seconds and the largest sum of its processes' memory (PSS), in bytes.

    Raises:
      RuntimeError: it failed.
    """
    peak, began = 0, time.perf_counter()
    with start(flags, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, _tree_memory(process.pid))
            time.sleep(SAMPLE_S)
    if process.returncode:
        raise RuntimeError(f"make_tfrecords {' '.join(flags)} ended with {process.returncode}")
    return time.perf_counter() - began, peak


def _tree_memory(pid: int) -> int:
    """Memory of a process and all below it, shared pages divided among them, in bytes; 0 for one that has just ended."""
    try:
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    own = next(
        (int(line.split()[1]) * KB for line in rollup.splitlines() if line.startswith("Pss:")), 0
    )
    return own + sum(_tree_memory(int(child)) for child in children)
