"""What a training run is told about where it computes."""

import dataclasses

from fv.errors import UserError
from fv.options import option

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
