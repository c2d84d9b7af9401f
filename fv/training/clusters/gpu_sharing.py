"""Which of a machine's GPUs are whose, where Slurm runs several workers on it."""

from collections.abc import Mapping, Sequence
from typing import Any

from fv.errors import UserError


def share(
    found: Sequence[Any], process: int, processes: int, environment: Mapping[str, str]
) -> Sequence[Any]:
    """The GPUs of one of the processes that run on a machine.

    Where Slurm binds tasks to GPUs (--gpus-per-task, --gpu-bind), a task sees fewer than the step has on the node: these are
    its own. Elsewhere all tasks see all of them, and each takes an equal part in the order of its place.

    Args:
      found: the GPUs that this process sees.
      process: its place among the processes of the machine.
      processes: number of these.
      environment: of this process.

    Raises:
      UserError: the GPUs do not divide over the processes.
    """
    of_step = [gpu for gpu in environment.get("SLURM_STEP_GPUS", "").split(",") if gpu]
    if processes == 1 or len(found) < max(len(of_step), processes):
        return found
    if len(found) % processes:
        raise UserError(
            f"{len(found)} GPUs do not divide over {processes} tasks of one node: set --gpus-per-task in Slurm"
        )
    count = len(found) // processes
    return found[process * count : (process + 1) * count]
