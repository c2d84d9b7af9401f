"""GPUs that the scheduler, the container or the driver names, but TensorFlow does not see."""

import errno
import functools
import glob
import os
import sys
from collections.abc import Mapping

from fv.errors import UserError

_VISIBLE = "CUDA_VISIBLE_DEVICES"
# The value of each that means no GPU.
_SLURM = {"SLURM_STEP_GPUS": "", "SLURM_JOB_GPUS": "", "SLURM_GPUS_ON_NODE": "0"}
_CONTAINER = "NVIDIA_VISIBLE_DEVICES"
# CUDA's container images say 'all' on machines without a GPU, too.
_NOT_IN_CONTAINER = ("", "all", "none", "void")
_DEVICES, _DRIVER = "dev/nvidia[0-9]*", "proc/driver/nvidia/gpus/*"
_ADVICE = (
    "install fv[gpu] (TF_CPP_MIN_LOG_LEVEL=0 shows what TensorFlow misses; a container needs "
    f"docker run --gpus), or set {_VISIBLE}=-1 to compute on the CPU"
)


def require_seen() -> None:
    """Checks that TensorFlow sees a GPU where this process has some.

    Raises:
      UserError: it sees none; the message says what names them.
    """
    if unseen := _find_unseen():
        raise UserError(f"TensorFlow sees no GPU, though {unseen}: {_ADVICE}")


@functools.cache
def warn_of_unseen() -> None:
    """Warns on stderr, once, that TensorFlow computes on the CPU though there are GPUs."""
    if unseen := _find_unseen():
        print(
            "fv: warning: TensorFlow sees no GPU and computes on the CPU, "
            f"though {unseen}: {_ADVICE}",
            file=sys.stderr,
        )


def _find_unseen() -> str | None:
    import tensorflow as tf  # slow to load, and `find` does without

    found = find(os.environ)
    return found if found and not tf.config.list_physical_devices("GPU") else None


def find(environment: Mapping[str, str], root: str = "/") -> str | None:
    """What says that this process has GPUs; None where nothing does, or where they are hidden.

    Args:
      environment: of this process.
      root: where /dev and /proc are.
    """
    visible = environment.get(_VISIBLE)
    if visible is not None and _hides_all(visible):
        return None
    for name, none in _SLURM.items():
        if environment.get(name, "").strip() not in ("", none):
            return f"Slurm allotted some ({name}={environment[name]})"
    if environment.get(_CONTAINER, "").strip() not in _NOT_IN_CONTAINER:
        return f"the container was given some ({_CONTAINER}={environment[_CONTAINER]})"
    devices = sorted(glob.glob(os.path.join(root, _DEVICES)))
    usable = [device for device in devices if _may_open(device)]
    if usable:
        return f"there is {usable[0]}"
    # Without device files, the container was started without the GPUs that the driver lists. With
    # some that may not be opened, Slurm keeps them from this job.
    driver = [] if devices else sorted(glob.glob(os.path.join(root, _DRIVER)))
    if driver:
        return f"the driver lists {driver[0]}"
    return f"{_VISIBLE}={visible}" if visible else None


def _hides_all(visible: str) -> bool:
    """Whether CUDA_VISIBLE_DEVICES hides all GPUs: CUDA reads it up to the first invalid entry."""
    first = visible.split(",")[0].strip()
    return not (first.isdecimal() or first.startswith(("GPU-", "MIG-")))


def _may_open(device: str) -> bool:
    """False where a cgroup keeps the device from this process."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.errno != errno.EPERM
    return True
