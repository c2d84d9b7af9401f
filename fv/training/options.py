"""What a training run is told."""

import dataclasses

from fv.model.options import ModelOptions
from fv.options import group, option, required
from fv.pipeline.augment import AugmentOptions
from fv.pipeline.options import InputOptions

STRATEGIES = ("one_device", "mirrored", "multi_worker", "tpu")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
OPTIMIZERS = ("adamw", "sgd", "lamb", "radam")
DECAYS = ("cosine", "constant")


@dataclasses.dataclass(frozen=True)
class StrategyOptions:
    """Where a run computes, and in which numbers."""

    strategy: str = option(
        "one_device", "Which tf.distribute strategy trains; multi_worker reads TF_CONFIG.", choices=STRATEGIES
    )
    num_gpus: int | None = option(None, "GPUs that a mirrored run uses; all by default.", lower=1)
    virtual_devices: int = option(
        1, "Split the CPU into this many devices, to try mirrored runs anywhere.", lower=1, upper=64
    )
    tpu: str = option("", "Name or grpc:// address of the TPU; empty for the local one.")
    precision: str = option("float32", "Of the computation; weights, norms, losses stay in float32.", choices=PRECISIONS)
    deterministic: bool = option(False, "Make every op deterministic: the same seed gives the same losses, bit for bit.")


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """How gradients become new weights."""

    optimizer: str = option(
        "adamw", "Update rule; lamb and radam (with Lookahead) need tensorflow-addons.", choices=OPTIMIZERS
    )
    learning_rate: float = option(1e-3, "Peak learning rate.", lower=0.0)
    warmup_steps: int = option(50, "Steps over which the learning rate rises from 0.", lower=0)
    decay: str = option("cosine", "How the learning rate goes on after warm-up, to 0 at the last step.", choices=DECAYS)
    weight_decay: float = option(1e-4, "Decoupled weight decay; biases and norms are left alone.", lower=0.0)
    clip_norm: float = option(0.0, "Clip the gradients to this global norm; 0 for never.", lower=0.0)


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """All of a training run."""

    tfrecords: str = required("folder of shards that tools/make_tfrecords.py wrote.")
    workdir: str = required("folder for checkpoints, flags and logs; an interrupted run there goes on.")
    model: ModelOptions = group(ModelOptions)
    init_weights: str = option(
        "none", "Of the backbone: none, imagenet (downloaded) or the path of a tf_keras weights file."
    )
    freeze_backbone: bool = option(False, "Train the embedding and the head only.")
    sync_batch_norm: bool = option(False, "Normalise by the statistics of all replicas together.")
    augmentation: AugmentOptions = group(AugmentOptions)
    compute: StrategyOptions = group(StrategyOptions)
    optimization: OptimizerOptions = group(OptimizerOptions)
    steps: int = option(500, "Training steps in all.", lower=1)
    global_batch_size: int = option(32, "Pairs per step over all replicas.", lower=1)
    input: InputOptions = group(InputOptions)
    shuffle_buffer: int = option(2048, "Encoded pairs held for shuffling, per input worker.", lower=1)
    seed: int = option(0, "Of initial weights, order and augmentation.", lower=0, upper=2**31 - 1)
    log_every: int = option(20, "Steps between log entries; the device works through them without the host.", lower=1)
    validate_every: int = option(200, "Steps between validations; 0 for only at the end.", lower=0)
    checkpoint_every: int = option(200, "Steps between checkpoints; 0 for only at the end.", lower=0)
    keep_checkpoints: int = option(3, "How many of the last checkpoints are kept.", lower=1)
