"""Tests of fv.workers."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from fv import workers
from fv.errors import UserError
from tests import waiting


def double(number):
    time.sleep(0.02 * (number % 3))
    return 2 * number


def kill_itself(_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order_and_tasks_are_drawn_as_needed():
    drawn = []
    tasks = (drawn.append(number) or number for number in range(40))
    with workers.pool(2) as run:
        results = run(double, tasks)
        assert next(results) == 0
        assert len(drawn) < 10
        assert list(results) == [2 * number for number in range(1, 40)]


def test_a_worker_that_dies_is_one_clear_error():
    with workers.pool(1) as run, pytest.raises(UserError, match="a worker process died"):
        list(run(kill_itself, [1]))


PARENT = """
import os, sys
from fv import workers
def pid(_):
    return os.getpid()
if __name__ == "__main__":
    with workers.pool(2) as run:
        print(*set(run(pid, range(20))), flush=True)
        sys.stdin.read()
"""


def test_workers_die_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    streams = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen([sys.executable, str(script)], env=environment, **streams) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert pids
    waiting.until(lambda: not any(map(is_running, pids)))


def is_running(pid):
    """Whether the process exists and is more than an entry that nobody has collected."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end between opening and reading
        return False


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """An empty folder of control groups, on a machine of eight cores and 1 GB."""
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: list(range(8)), raising=False)
    memory = psutil.virtual_memory()._replace(available=1_000_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("20000 100000\n", 1),
        ("900000 100000\n", 8),
        ("max 100000\n", 8),
    ],
)
def test_a_quota_is_rounded_up_and_limits_the_cores(cgroup, quota, cores):
    (cgroup / "cpu.max").write_text(quota)
    assert workers.available_cores(str(cgroup)) == cores


@pytest.mark.parametrize(("quota", "cores"), [("300000\n", 3), ("-1\n", 8)])
def test_cgroup_v1_has_the_quota_in_two_files(cgroup, quota, cores):
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (cgroup / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert workers.available_cores(str(cgroup)) == cores


def test_without_control_groups_the_machine_is_the_limit(cgroup):
    assert workers.available_cores(str(cgroup)) == 8
    assert workers.available_memory(str(cgroup)) == 1_000_000_000


@pytest.mark.parametrize(("limit", "left"), [("1000000\n", 700_000), ("max\n", 1_000_000_000)])
def test_memory_is_the_least_of_machine_and_control_group(cgroup, limit, left):
    (cgroup / "memory.max").write_text(limit)
    (cgroup / "memory.current").write_text("400000\n")
    (cgroup / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    assert workers.available_memory(str(cgroup)) == left


def test_cgroup_v1_counts_the_page_cache_as_free_too(cgroup):
    (cgroup / "memory").mkdir()
    (cgroup / "memory" / "memory.limit_in_bytes").write_text("1000000\n")
    (cgroup / "memory" / "memory.usage_in_bytes").write_text("400000\n")
    (cgroup / "memory" / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 100000\n")
    assert workers.available_memory(str(cgroup)) == 700_000


def test_a_cache_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(workers, "available_memory", lambda: 100 << 20)
    workers.require_memory("--cache=encoded", 80 << 20, "5 records")
    with pytest.raises(UserError, match="needs 81 MiB for 5 records, more than 80% of the 100 MiB"):
        workers.require_memory("--cache=encoded", 81 << 20, "5 records")
