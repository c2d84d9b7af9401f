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
        "Multiply the rate by --global_batch_size / --base_batch_size, or by its root.",
        choices=RATE_SCALINGS,
    )
    base_batch_size: int = option(
        256, "Pairs per step that --learning_rate was chosen for, where it is scaled.", lower=1
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
        "The backbone's weights and BatchNorm statistics stand still for this many first steps.",
        lower=0,
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
        "Keep a moving average of the weights (ema), or their mean over the last part of the run (swa).",
        choices=AVERAGES,
    )
    average_momentum: float = option(
        0.999,
        "ema: share of the old average that a step keeps; less in the first steps, [0, 1).",
        lower=0.0,
        upper=0.999999,
    )
    swa_start: float = option(
        0.75,
        "swa: share of the run's steps after which the mean begins; until then it is the last weights.",
        lower=0.0,
        upper=1.0,
    )
