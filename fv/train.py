"""Trains a face verifier.

    python -m fv.train --flagfile=configs/X.flags --tfrecords=DIR --workdir=DIR

The same command continues a run that was interrupted or killed. SIGTERM and Ctrl-C save a
checkpoint and end the run within seconds with exit code 138. A second signal ends it at once. Run
the command again after exit code 138, which also means that another worker was lost, and after 75,
a temporary error of a disk or the network. docs/cluster.md lists all exit codes.
"""

import ctypes
import os

# Of glibc's malloc.h. −1 turns trimming off.
_MALLOC_SETTINGS = {"M_ARENA_MAX": (-8, 1), "M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1)}
_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd")
_USER_SETTINGS = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def _keep_freed_memory() -> None:
    """Makes glibc's malloc keep freed memory, in one arena; call it before there are threads.

    By default each thread gets an arena of heaps of at most 64 MiB, which go back to the system
    when they are empty, as larger blocks do. A step's tensors are as large as that and travel
    between threads, so every step faults its memory in again: 220 MB for InceptionV3 at 139 pixels
    and 32 images. benchmarks/results/training_step.md has the effect.

    Does nothing where the environment configures malloc, without glibc, or with a GPU, where the
    step's tensors are not malloc's and many threads feed it.
    """
    if any(name in os.environ for name in _USER_SETTINGS):
        return
    if any(map(os.path.exists, _ACCELERATORS)):  # noqa: TID251  fv is not imported yet
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for parameter, value in _MALLOC_SETTINGS.values():
            mallopt(parameter, value)


_keep_freed_memory()  # before TensorFlow and numpy start threads

from fv import cli, quiet_tensorflow  # noqa: E402, F401  TensorFlow first, without its start-up noise
from fv.training.options import TrainOptions  # noqa: E402
from fv.training.run import train  # noqa: E402


def run() -> None:
    """The console script."""
    cli.run(train, TrainOptions, description=__doc__)


if __name__ == "__main__":
    run()
