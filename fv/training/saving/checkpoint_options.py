"""What a run keeps, and how often it saves."""

import dataclasses

from fv.options import option


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """What a run keeps, and how often it saves."""

    checkpoint_every: int = option(
        200,
        "Steps between checkpoints; 0 for only at the end. One is saved every ten minutes in any case.",
        lower=0,
    )
