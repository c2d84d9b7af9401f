"""What a training run is told."""

import dataclasses

from fv.model.options import ModelOptions
from fv.options import group, option, required
from fv.pipeline.augment import AugmentOptions
from fv.pipeline.options import InputOptions
from fv.training.saving.checkpoint_options import CheckpointOptions
from fv.training.strategy_options import StrategyOptions
from fv.training.teacher import TeacherOptions
from fv.training.updates.optimizer_options import AveragingOptions, OptimizerOptions
from fv.training.watching.report_options import ReportOptions


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """All of a training run."""

    tfrecords: str = required("folder of shards that tools/make_tfrecords.py wrote.")
    workdir: str = required(
        "folder for checkpoints, flags and logs; an interrupted run there goes on."
    )
    model: ModelOptions = group(ModelOptions)
    init_weights: str = option(
        "none",
        "What the weights begin with: none, imagenet (downloaded), or the path of another workdir, an export's version or "
        "a tf_keras weights file of the backbone. A workdir gives its last checkpoint; WORKDIR@best the one that validated "
        "best. Layers that fit are loaded, the others are named.",
    )
    sync_batch_norm: bool = option(False, "Normalise by the statistics of all replicas together.")
    augmentation: AugmentOptions = group(AugmentOptions)
    compute: StrategyOptions = group(StrategyOptions)
    optimization: OptimizerOptions = group(OptimizerOptions)
    averaging: AveragingOptions = group(AveragingOptions)
    teaching: TeacherOptions = group(TeacherOptions)
    steps: int = option(500, "Training steps in all.", lower=1)
    global_batch_size: int = option(32, "Pairs per step over all replicas.", lower=1)
    input: InputOptions = group(InputOptions)
    seed: int = option(0, "Of initial weights, order and augmentation.", lower=0, upper=2**31 - 1)
    report: ReportOptions = group(ReportOptions)
    saving: CheckpointOptions = group(CheckpointOptions)
