"""What a training run is told."""

import dataclasses

from fv.errors import UserError
from fv.model.options import ModelOptions
from fv.options import group, option, required
from fv.pipeline.augment import AugmentOptions
from fv.pipeline.options import InputOptions
from fv.training.teacher import TeacherOptions

# What a training run is told about where it computes.

STRATEGIES = ("one_device", "mirrored", "multi_worker", "tpu")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class StrategyOptions:
    """Where a run computes, and in which numbers."""

    strategy: str = option(
        "one_device",
        "Which tf.distribute strategy trains: one device, the GPUs of this machine, those of several machines, or a TPU.",
        choices=STRATEGIES,
    )
    num_gpus: int | None = option(
        None, "GPUs that this process uses, of the first ones; all by default.", lower=1
    )
    virtual_devices: int = option(
        1, "Split the CPU into this many devices, to try mirrored runs anywhere.", lower=1, upper=64
    )
    workers: str = option(
        "",
        "HOST:PORT of each worker of a multi_worker run, the same list for all; node[1-4]:12345 stands for four of them. "
        "Or slurm: as Slurm says; slurm:PORT sets the port of a node's first worker, and the next ones take the next. "
        "By default as the environment variable TF_CONFIG says.",
    )
    worker_index: int | None = option(
        None, "Place of this process in --workers, from 0; the first is the chief.", lower=0
    )
    startup_timeout: float = option(
        600.0,
        "Seconds that a worker waits for the others before it names the missing ones and gives up.",
        lower=1.0,
    )
    precision: str = option(
        "float32", "Of the computation; weights, norms, losses stay in float32.", choices=PRECISIONS
    )
    xla: bool = option(False, "Compile the forward and backward pass with XLA.")
    deterministic: bool = option(
        False, "Make every op deterministic: the same seed gives the same losses, bit for bit."
    )

    def check(self) -> None:
        """Checks that the choices go together.

        Raises:
          UserError: they do not.
        """
        if self.strategy != "multi_worker":
            self._check_alone()
        if self.virtual_devices > 1 and self.strategy != "mirrored":
            raise UserError(
                f"--virtual_devices={self.virtual_devices} is for --strategy=mirrored, not {self.strategy}"
            )
        if self.xla and self.strategy == "tpu":
            raise UserError("--xla is for CPUs and GPUs: a TPU always compiles the step")
        if (self.num_gpus or 1) > 1 and self.strategy in ("one_device", "tpu"):
            raise UserError(
                f"--num_gpus={self.num_gpus} is for --strategy=mirrored or multi_worker, not {self.strategy}"
            )

    def _check_alone(self) -> None:
        """Checks that no cluster is named: each of its machines would train a model of its own."""
        named = {
            "--workers": bool(self.workers),
            "--worker_index": self.worker_index is not None,
        }
        for flag, given in named.items():
            if given:
                raise UserError(f"{flag} is for --strategy=multi_worker, not {self.strategy}")


# What a run keeps, and how often it saves.


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """What a run keeps, and how often it saves."""

    checkpoint_every: int = option(
        200,
        "Steps between checkpoints; 0 for only at the end. One is saved every ten minutes in any case.",
        lower=0,
    )


# What a run shows of itself, and how often.


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """What a person watches."""

    log_every: int = option(
        20,
        "Steps between log entries (lines on stderr at most every 10 s); the device works through them without the host.",
        lower=1,
    )
    validate_every: int = option(200, "Steps between validations; 0 for only at the end.", lower=0)


# What a training run is told about its updates.

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
