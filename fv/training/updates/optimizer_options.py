"""What a training run is told about its updates."""

import dataclasses

from fv.options import option

OPTIMIZERS = ("adamw", "sgd", "lamb", "radam")
DECAYS = ("cosine", "constant")
RATE_SCALINGS = ("none", "linear", "sqrt")
AVERAGES = ("none", "ema", "swa")


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """How gradients become new weights."""

    optimizer: str = option(
        "adamw",
        "Update rule; lamb and radam (with Lookahead) need tensorflow-addons.",
        choices=OPTIMIZERS,
    )
    learning_rate: float = option(1e-3, "Peak learning rate.", lower=0.0)
    scale_learning_rate: str = option(
        "none",
        "Multiply the rate by --global_batch_size / 256, or by the root of that.",
        choices=RATE_SCALINGS,
    )
    warmup_steps: int = option(50, "Steps over which the learning rate rises from 0.", lower=0)
    decay: str = option(
        "cosine",
        "How the learning rate falls after warm-up: to 0 at the last step, or not at all.",
        choices=DECAYS,
    )
    backbone_learning_rate: float = option(
        1.0,
        "Of the backbone, as a multiple of the rate of embedding and head; pretrained weights want less.",
        lower=0.0,
    )
    freeze_backbone_steps: int = option(
        0,
        "Keep the backbone's weights and BatchNorm statistics as they are for this many first steps; -1 for the whole run.",
        lower=-1,
    )
    weight_decay: float = option(
        1e-4, "Decoupled weight decay; biases and norms are left alone.", lower=0.0
    )
    clip_norm: float = option(
        0.0, "Clip the gradients to this global norm; 0 for never.", lower=0.0
    )
    accumulate_steps: int = option(
        1,
        "Work through the global batch of a step in this many parts, one after the other, to save memory.",
        lower=1,
    )


@dataclasses.dataclass(frozen=True)
class AveragingOptions:
    """Which mean of the weights is validated, evaluated and exported in place of the last ones."""

    average_weights: str = option(
        "none",
        "Keep a moving average of the weights (ema), or their mean over the last quarter of the steps (swa).",
        choices=AVERAGES,
    )
