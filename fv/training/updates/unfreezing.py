"""A backbone that stands still in a run's first steps and then learns with the rest."""

import contextlib
from collections.abc import Iterator

from fv.model import backbones
from fv.model.siamese import Siamese


def stages(first_step: int, steps: int, frozen_steps: int) -> list[tuple[int, int, bool]]:
    """Splits steps where the backbone begins to learn: one or two of (first step, number of steps, backbone frozen)."""
    frozen = min(max(frozen_steps - first_step, 0), steps)
    both = [(first_step, frozen, True), (first_step + frozen, steps - frozen, False)]
    return [stage for stage in both if stage[1]]


@contextlib.contextmanager
def standing_still(model: Siamese, frozen: bool) -> Iterator[None]:
    """While it lasts, graphs are traced with a backbone that is frozen: no gradients, and BatchNorm by its statistics."""
    backbone = model.encoder.get_layer(backbones.NAME)
    learns = backbone.trainable  # not under --freeze_backbone_steps=-1
    backbone.trainable = learns and not frozen
    try:
        yield
    finally:
        backbone.trainable = learns
