"""attempts.json in a run's workdir: every start of one of its stages by a sweep, with what it took."""

import dataclasses
import os

from fv import files
from fv.errors import UserError

FILE_NAME = "attempts.json"
TRAINING, WHITENING, EVALUATION = STAGES = (
    "training",
    "whitening",
    "evaluation",
)  # of a run, in order


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a run took, over all attempts.

    Attributes:
      wall_seconds: waiting, this machine's other work included.
      cpu_seconds: of all threads and child processes.
      complete: False where the sweep itself was killed, and an attempt's time is not known: then the sums are least values.
    """

    wall_seconds: float
    cpu_seconds: float
    complete: bool


def begin(folder: str, what: str) -> None:
    """Notes that a stage begins."""
    _save(
        folder,
        [
            *_load(folder),
            {"what": what, "exit_code": None, "wall_seconds": None, "cpu_seconds": None},
        ],
    )


def end(folder: str, exit_code: int, wall_seconds: float, cpu_seconds: float) -> None:
    """Notes how the last attempt ended, and what it took."""
    *before, last = _load(folder)
    took = {"wall_seconds": round(wall_seconds, 2), "cpu_seconds": round(cpu_seconds, 2)}
    _save(folder, [*before, last | {"exit_code": exit_code} | took])


def cost(folder: str, what: str) -> Cost:
    """What all attempts at `what` took; nothing where the sweep made none."""
    made = [attempt for attempt in _load(folder) if attempt["what"] == what]
    known = [attempt for attempt in made if attempt["exit_code"] is not None]
    sums = (
        round(sum(attempt[unit] for attempt in known), 2)
        for unit in ("wall_seconds", "cpu_seconds")
    )
    return Cost(*sums, complete=len(known) == len(made))


def _load(folder: str) -> list[dict]:
    path = os.path.join(folder, FILE_NAME)
    try:
        return list(files.load_json(path)["attempts"]) if files.exists(path) else []
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not the record of a sweep: move it away, or give another --output"
        ) from error


def _save(folder: str, attempts: list[dict]) -> None:
    files.save_json({"attempts": attempts}, os.path.join(folder, FILE_NAME))
