"""Which of a workdir's checkpoints: what every --checkpoint may name."""

import os

from fv import workdir as workdirs
from fv.options import option

LAST, BEST = "last", "best"
CHOICES = (LAST, BEST)


def flag() -> str:
    """The field of an options dataclass for --checkpoint."""
    return option(
        LAST, "Which checkpoint: the last one, or the one that validated best.", choices=CHOICES
    )


def folder(workdir: str, which: str) -> str:
    """Where a workdir's last checkpoints lie, or the one that validated best."""
    return os.path.join(workdir, workdirs.BEST if which == BEST else workdirs.CHECKPOINTS)
