import errno
import fcntl
import os
import subprocess
import sys

import pytest

from fv import folder_lock
from fv.errors import UserError

HOLD = """
import sys, time
from fv import folder_lock
with folder_lock.held(sys.argv[1], "busy"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_refused_while_it_is_held_and_gone_afterwards(tmp_path):
    with (
        folder_lock.held(str(tmp_path), "busy"),
        pytest.raises(UserError, match="another run"),
        folder_lock.held(str(tmp_path), "another run"),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_a_killed_process_leaves_no_lock_behind(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="busy"), folder_lock.held(str(tmp_path), "busy"):
        pass
    holder.kill()
    holder.wait()
    with folder_lock.held(str(tmp_path), "busy"):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS])
def test_a_disk_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, capsys, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with folder_lock.held(str(tmp_path), "busy"):
        assert "cannot be locked" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
