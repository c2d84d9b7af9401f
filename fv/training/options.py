"""The options of a training run; each field is a flag of fv.train."""

import dataclasses

from fv.errors import UserError
from fv.model.options import ModelOptions
from fv.options import group, option, required
from fv.pipeline.augment import AugmentOptions
from fv.pipeline.options import InputOptions

STRATEGIES = ("one_device", "mirrored", "multi_worker", "tpu")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class StrategyOptions:
    """Devices, cluster and precision."""

    strategy: str = option(
        "one_device",
        "The tf.distribute strategy: one device, the GPUs of this machine (mirrored), those of "
        "several machines (multi_worker), or a TPU.",
        choices=STRATEGIES,
    )
    num_gpus: int | None = option(
        None, "Use only this many GPUs of this process, from the first; all by default.", lower=1
    )
    virtual_devices: int = option(
        1, "Split the CPU into this many devices, to try mirrored without GPUs.", lower=1, upper=64
    )
    workers: str = option(
        "",
        "Workers of a multi_worker run: HOST:PORT of each, the same list for all; "
        "node[1-4]:12345 means four workers. slurm takes the workers of the Slurm job. "
        "slurm:PORT also sets the port of each node's first worker; further workers of the node "
        "take the next ports. By default the environment variable TF_CONFIG names the workers.",
    )
    worker_index: int | None = option(
        None, "Place of this process in --workers, from 0; 0 is the chief.", lower=0
    )
    startup_timeout: float = option(
        600.0,
        "Seconds to wait for the other workers; after that, a worker names the missing ones and "
        "exits.",
        lower=1.0,
    )
    precision: str = option(
        "float32",
        "Precision of the computation; weights, norms and losses stay in float32.",
        choices=PRECISIONS,
    )
    xla: bool = option(False, "Compile the forward and backward pass with XLA.")
    deterministic: bool = option(
        False, "Make every op deterministic: the same seed gives the same losses to the bit."
    )

    def check(self) -> None:
        """Raises UserError where the choices do not go together."""
        if self.strategy != "multi_worker":
            # Each machine of a cluster would train a model of its own.
            for flag, given in (
                ("--workers", bool(self.workers)),
                ("--worker_index", self.worker_index is not None),
            ):
                if given:
                    raise UserError(f"{flag} is for --strategy=multi_worker, not {self.strategy}")
        if self.virtual_devices > 1 and self.strategy != "mirrored":
            raise UserError(
                f"--virtual_devices={self.virtual_devices} is for --strategy=mirrored, "
                f"not {self.strategy}"
            )
        if self.xla and self.strategy == "tpu":
            raise UserError("--xla is for CPUs and GPUs: a TPU always compiles the step")
        if (self.num_gpus or 1) > 1 and self.strategy in ("one_device", "tpu"):
            raise UserError(
                f"--num_gpus={self.num_gpus} is for --strategy=mirrored or multi_worker, "
                f"not {self.strategy}"
            )


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """Checkpoints."""

    checkpoint_every: int = option(
        200,
        "Steps between checkpoints; 0 for only at the end. One is also saved every ten minutes.",
        lower=0,
    )


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Logs and validations."""

    log_every: int = option(
        20,
        "Steps between two log entries; the device runs them without the host. Lines on stderr "
        "come at most every 10 s.",
        lower=1,
    )
    validate_every: int = option(200, "Steps between validations; 0 for only at the end.", lower=0)


OPTIMIZERS = ("adamw", "sgd", "lamb", "radam")
DECAYS = ("cosine", "constant")
RATE_SCALINGS = ("none", "linear", "sqrt")
AVERAGES = ("none", "ema", "swa")


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """The optimizer and its learning rates."""

    optimizer: str = option(
        "adamw",
        "The optimizer; lamb and radam (with Lookahead) need tensorflow-addons.",
        choices=OPTIMIZERS,
    )
    learning_rate: float = option(1e-3, "Peak learning rate.", lower=0.0)
    scale_learning_rate: str = option(
        "none",
        "Multiply the learning rate by --global_batch_size / 256 (linear), or by its square "
        "root (sqrt).",
        choices=RATE_SCALINGS,
    )
    warmup_steps: int = option(50, "Steps over which the learning rate rises from 0.", lower=0)
    decay: str = option(
        "cosine",
        "How the learning rate falls after the warm-up: to 0 at the last step, or not at all.",
        choices=DECAYS,
    )
    backbone_learning_rate: float = option(
        1.0,
        "Learning rate of the backbone, as a multiple of the rate of embedding and head; below 1 "
        "for pretrained weights.",
        lower=0.0,
    )
    freeze_backbone_steps: int = option(
        0,
        "Freeze the backbone's weights and BatchNorm statistics for this many first steps; -1 for "
        "the whole run.",
        lower=-1,
    )
    weight_decay: float = option(
        1e-4, "Decoupled weight decay of all weights but biases and norms.", lower=0.0
    )
    clip_norm: float = option(
        0.0, "Clip the gradients to this global norm; 0 for no clipping.", lower=0.0
    )
    accumulate_steps: int = option(
        1,
        "Compute the gradients of a step in this many parts, one after the other, to save memory.",
        lower=1,
    )


@dataclasses.dataclass(frozen=True)
class AveragingOptions:
    """Averages of the weights, evaluated and exported in place of the last weights."""

    average_weights: str = option(
        "none",
        "Keep a moving average of the weights (ema), or their mean over the last quarter of the "
        "steps (swa).",
        choices=AVERAGES,
    )


@dataclasses.dataclass(frozen=True)
class TeacherOptions:
    """Trained models whose embeddings the model imitates."""

    teacher: str | None = option(
        None,
        "Workdir of a model whose embeddings the model imitates; it was trained on people of "
        "this training split.",
    )
    teacher_embeddings: str | None = option(
        None,
        "File of embeddings of any length that the model imitates: of fv.embed, or another with "
        "the columns path and embedding.",
    )
    teacher_onnx: str | None = option(
        None, "ONNX file of a model to imitate, which embeds the augmented images."
    )
    teacher_weight: float = option(
        10.0,
        "Weight of the distillation loss, 1 − cosine to the teacher's embedding.",
        lower=0.0,
    )
    teacher_mixup: float = option(
        0.0,
        "Share of the pairs whose images are blended with those of another pair, in [0, 1]. The "
        "teacher embeds the blended images (--teacher or --teacher_onnx); the head's loss leaves "
        "these pairs out.",
        lower=0.0,
        upper=1.0,
    )

    @property
    def external(self) -> str | None:
        """The file of a teacher whose training people are not known."""
        return self.teacher_embeddings or self.teacher_onnx

    def check(self) -> None:
        """Raises UserError for two teachers, or for one that cannot embed blended images."""
        if sum(map(bool, (self.teacher, self.teacher_embeddings, self.teacher_onnx))) > 1:
            raise UserError("--teacher, --teacher_embeddings and --teacher_onnx: give one of them")
        if self.teacher_mixup and not (self.teacher or self.teacher_onnx):
            raise UserError(
                f"--teacher_mixup={self.teacher_mixup:g} needs a teacher that embeds the blended "
                "images: give --teacher or --teacher_onnx"
            )


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """All options of a training run."""

    tfrecords: str = required("folder of shards that tools/make_tfrecords.py wrote.")
    workdir: str = required(
        "folder for checkpoints, flags and logs; an interrupted run in it continues."
    )
    model: ModelOptions = group(ModelOptions)
    init_weights: str = option(
        "none",
        "Initial weights: none (random), imagenet (downloaded), or a path of another workdir, "
        "an export's version, or a tf_keras weights file of the backbone. WORKDIR takes the "
        "last checkpoint, WORKDIR@best the one that validated best. Layers that fit are loaded, "
        "and the others are named.",
    )
    sync_batch_norm: bool = option(False, "Normalise by the statistics of all replicas together.")
    augmentation: AugmentOptions = group(AugmentOptions)
    compute: StrategyOptions = group(StrategyOptions)
    optimization: OptimizerOptions = group(OptimizerOptions)
    averaging: AveragingOptions = group(AveragingOptions)
    teaching: TeacherOptions = group(TeacherOptions)
    steps: int = option(500, "Training steps in total.", lower=1)
    global_batch_size: int = option(32, "Pairs per step over all replicas.", lower=1)
    input: InputOptions = group(InputOptions)
    seed: int = option(
        0,
        "Seed of initial weights, order of pairs, augmentation and dropout.",
        lower=0,
        upper=2**31 - 1,
    )
    report: ReportOptions = group(ReportOptions)
    saving: CheckpointOptions = group(CheckpointOptions)
