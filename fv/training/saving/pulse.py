"""What happens between two host calls beside the plan, at the same step in every worker."""

import dataclasses

from fv.training.clusters.agreement import Agreement
from fv.training.saving.checkpoints import Checkpoints
from fv.training.saving.interruption import Interruption

_CALL_SECONDS = (
    5.0  # of a host call at most: Slurm and Kubernetes leave 30 between SIGTERM and SIGKILL
)
_SAVE_SECONDS = 600.0  # between two checkpoints at most
_BATCHES_UNHEARD = 8  # validation batches between two looks at the signals


class StopAsked(Exception):
    """A validation is broken off, for someone asked the run to stop."""


@dataclasses.dataclass(frozen=True)
class Beat:
    """What is to be done now: save and leave, save and go on; and how many steps the next host call may take."""

    leave: bool
    save: bool
    steps: int


class Pulse:
    """Asks all workers after each host call whether one was told to stop, and whether a checkpoint is due by time."""

    def __init__(
        self,
        agreement: Agreement,
        interruption: Interruption,
        checkpoints: Checkpoints,
        save_seconds: float = _SAVE_SECONDS,
    ):
        self._agreement, self._interruption, self._checkpoints = (
            agreement,
            interruption,
            checkpoints,
        )
        self._save_seconds, self._batches = save_seconds, 0

    def beat(self, steps: int, seconds: float) -> Beat:
        """The pulse after a host call of so many steps and seconds."""
        affordable = _CALL_SECONDS * steps / seconds
        due = self._checkpoints.seconds_since >= self._save_seconds
        leave, save, mean_steps = self._agreement.mean(
            self._interruption.requested, due, affordable
        )
        return Beat(leave > 0.0, save > 0.0, max(1, int(mean_steps)))

    def between_batches(self) -> None:
        """To be called after each validation batch, of which all workers have equally many.

        Raises:
          StopAsked: a worker was told to stop.
        """
        self._batches += 1
        if self._batches % _BATCHES_UNHEARD == 0 and self._agreement.any(
            self._interruption.requested
        ):
            raise StopAsked
