import os
import signal
import subprocess
import sys
import time

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
