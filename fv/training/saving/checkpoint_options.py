"""What a run keeps, and how often it saves."""

import dataclasses

from fv.options import option

METRICS = ("auc", "accuracy")


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """What a run keeps, and how often it saves."""

    checkpoint_every: int = option(
        200, "Steps between checkpoints; 0 for only at the end.", lower=0
    )
    checkpoint_minutes: float = option(
        10.0,
        "Save also when this many minutes have passed since the last checkpoint; 0 for never.",
        lower=0.0,
    )
    keep_checkpoints: int = option(3, "How many of the last checkpoints are kept.", lower=1)
    keep_best: str = option(
        "auc",
        "Validation figure by which the best checkpoint is kept beside the last ones.",
        choices=(*METRICS, "none"),
    )
