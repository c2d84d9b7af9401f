"""How glibc's malloc serves the threads of a process that trains on the CPU."""

import ctypes
import os

_M_ARENA_MAX = -8  # of glibc's malloc.h
_USERS_OWN = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
_ACCELERATORS = (
    "/dev/nvidiactl",
    "/dev/kfd",
)  # with one the step's tensors are not malloc's, and many threads feed it


def share_one_arena() -> None:
    """Lets all threads allocate from one arena; to be called before there are any.

    By itself glibc gives each thread an arena of its own, made of heaps of at most 64 MiB that go back to the system when
    they are empty. A step's tensors are as large as that and travel between threads, so with a second thread that allocates,
    as that of an input iterator, every step faults its memory in again: 220 MB of InceptionV3's at 139 pixels, 32 images.
    Nothing happens where the user's environment says how malloc works, where there is an accelerator, or without glibc.
    """
    if any(name in os.environ for name in _USERS_OWN) or any(map(os.path.exists, _ACCELERATORS)):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_ARENA_MAX, 1)
