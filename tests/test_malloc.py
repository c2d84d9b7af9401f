import os
import subprocess
import sys

import pytest

# Threads allocate at the same time; malloc_info then lists the arenas as "heaps".
ARENAS = """
import ctypes, os, tempfile, threading
from fv import malloc
{call}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
together = threading.Barrier(4)
def allocate():
    together.wait()
    libc.malloc(ctypes.c_size_t(100_000))
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
path = os.path.join(tempfile.mkdtemp(), "info")
file = libc.fopen(path.encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file)), libc.fclose(ctypes.c_void_p(file))
print(open(path).read().count("<heap nr="))
"""


def arenas(call: str, **environment: str) -> int:
    environment = {
        name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"
    } | environment
    done = subprocess.run(
        [sys.executable, "-c", ARENAS.format(call=call)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_all_threads_share_one_arena_unless_the_user_says_otherwise():
    assert arenas("") > 1
    assert arenas("malloc._ACCELERATORS = (); malloc.share_one_arena()") == 1
    assert arenas("malloc.share_one_arena()", MALLOC_ARENA_MAX="8") > 1
    assert arenas("malloc._ACCELERATORS = ('/dev/null',); malloc.share_one_arena()") > 1
