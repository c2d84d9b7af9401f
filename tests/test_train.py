import os
import subprocess
import sys

import pytest

# A block that malloc does not map by itself grows the heap, and stays in it when it is freed.
KEPT = """
import ctypes, sys
sys.modules["fv.cli"] = None
try:
    import {module}
except ImportError:
    pass
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
before = libc.sbrk(0)
block = libc.malloc(ctypes.c_size_t(1 << 28))
libc.free(ctypes.c_void_p(block))
print(libc.sbrk(0) - before >= 1 << 28)
"""

# Threads allocate at the same time; malloc_info then lists the arenas as "heaps". `fv.train` sets
# the arenas before it imports anything else: the import stops there, before TensorFlow.
ARENAS = """
import ctypes, os, sys, tempfile, threading
exists, found, devices = os.path.exists, {accelerator!r}, ("/dev/nvidiactl", "/dev/kfd")
os.path.exists = lambda path: path == found if path in devices else exists(path)
sys.modules["fv.cli"] = None
try:
    import {module}
except ImportError:
    pass
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


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
@pytest.mark.parametrize("module, kept", [("fv", "False\n"), ("fv.train", "True\n")])
def test_training_keeps_freed_memory_for_the_next_step(module, kept):
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    command = [sys.executable, "-c", KEPT.format(module=module)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == kept


def count_arenas(module: str, accelerator: str | None = None, **environment: str) -> int:
    """Arenas of a process that imports a module and then allocates in four threads."""
    kept = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    done = subprocess.run(
        [sys.executable, "-c", ARENAS.format(module=module, accelerator=accelerator)],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_threads_share_one_arena_except_with_accelerator_or_user_setting():
    assert count_arenas("fv") > 1
    assert count_arenas("fv.train") == 1
    assert count_arenas("fv.train", MALLOC_ARENA_MAX="8") > 1
    assert count_arenas("fv.train", accelerator="/dev/kfd") > 1
