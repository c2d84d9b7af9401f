"""The best checkpoint by validation, which the rotation of the last ones leaves alone."""

import math
import os
from collections.abc import Callable

from fv import files, ownership
from fv import workdir as workdirs
from fv.training.clusters.agreement import Agreement

FILE = (
    "validation.json"  # {"step": of the last validation, "metric", "best": its value, "best_step"}
)

_METRIC = "auc"


class Best:
    """Keeps the checkpoint that validated best, and remembers which steps were validated."""

    def __init__(self, workdir: str, agreement: Agreement, *, chief: bool):
        """Args:
        workdir: of the run.
        agreement: of the workers.
        chief: whether this process decides and writes.
        """
        self._workdir, self._path = workdir, os.path.join(workdir, workdirs.BEST, FILE)
        self._agreement, self._chief = agreement, chief
        self._known = files.load_json(self._path) if chief and files.exists(self._path) else {}

    def validated(self, step: int) -> bool:
        """Whether the weights after `step` steps, or later ones, were validated."""
        return self._agreement.any(self._chief and self._known.get("step", 0) >= step)

    def offer(self, step: int, auc: float, save: Callable[[int], None]) -> None:
        """Calls `save` where the validation after `step` steps found better weights than any before.

        It is noted when they are saved. A run that is killed in between validates that step again, and finds the same.
        """
        best = self._known["best"] if self._known.get("metric") == _METRIC else -math.inf
        if self._agreement.any(self._chief and auc > best):
            save(step)
            self._known |= {"metric": _METRIC, "best": auc, "best_step": step}
        self._known["step"] = step
        if self._chief:
            files.make_folder(os.path.dirname(self._path))
            ownership.note(self._workdir, {f"{workdirs.BEST}/{FILE}": ownership.UNCHECKED})
            files.save_json(self._known, self._path)
