"""What a host can feed, what a model takes, and which of them holds training back."""

import dataclasses
import math

from fv.benchmarking.metering import Rate

ENOUGH = 1.1  # times what the model takes; below it, the input holds the step back now and then


@dataclasses.dataclass(frozen=True)
class Report:
    """Three rates of one training configuration.

    Attributes:
      host: the input pipeline alone.
      model: training steps on a batch that is there already.
      together: training steps on the pipeline's batches.
      input_share: of the time together that the device waited for a batch, [0, 1].
      cores: that this process may use.
      accelerators: replicas that train, each on a device of its own.
      device: what they are, CPU or an accelerator's name.
      global_batch_size: pairs per step.
    """

    host: Rate
    model: Rate
    together: Rate
    input_share: float
    cores: int
    accelerators: int
    device: str
    global_batch_size: int

    @property
    def bottleneck(self) -> str:
        """What is slower: input or model."""
        return "input" if self.host.images_per_s < self.model.images_per_s else "model"

    @property
    def cores_per_accelerator(self) -> float:
        """Busy cores that keep one accelerator fed: what it takes over what a core delivers."""
        return self.model.images_per_s / self.accelerators / self.host.images_per_cpu_s

    @property
    def accelerators_fed(self) -> float:
        """How many such accelerators this host's cores feed."""
        return self.host.images_per_s / (self.model.images_per_s / self.accelerators)

    def figures(self) -> dict:
        """All of it as JSON takes it."""
        rates = {"host": self.host, "model": self.model, "together": self.together}
        return {
            **{f"{name}_images_per_s": round(rate.images_per_s, 1) for name, rate in rates.items()},
            "host_images_per_cpu_s": round(self.host.images_per_cpu_s, 1),
            "host_images_per_s_per_core": round(self.host.images_per_s / self.cores, 1),
            "step_ms": round(self._step_ms(self.model), 2),
            "step_with_input_ms": round(self._step_ms(self.together), 2),
            "input_share": round(self.input_share, 3),
            "cores": self.cores,
            "accelerators": self.accelerators,
            "device": self.device,
            "global_batch_size": self.global_batch_size,
            "bottleneck": self.bottleneck,
            "cores_per_accelerator": round(self.cores_per_accelerator, 2),
            "accelerators_fed": round(self.accelerators_fed, 1),
        }

    def lines(self) -> list[str]:
        """What a person reads, the verdict last."""
        per_cpu_s, waiting = (
            f"{self.host.images_per_cpu_s:,.0f} per second of CPU time",
            f"{self.input_share:.0%} waiting",
        )
        return [
            f"{'input alone':<15}{_rate(self.host)}, {per_cpu_s}, {_count(self.cores, 'core')}",
            f"{'model alone':<15}{_rate(self.model)}, {self._step(self.model)}, {_count(self.accelerators, self.device)}",
            f"{'both together':<15}{_rate(self.together)}, {self._step(self.together)}, {waiting}",
            self.verdict(),
        ]

    def verdict(self) -> str:
        """One sentence on the bottleneck and one on the cores."""
        return f"{self._bottleneck_sentence()} {self._cores_sentence()}"

    def _bottleneck_sentence(self) -> str:
        share = self.host.images_per_s / self.model.images_per_s
        if share < 1:
            return f"The input is the bottleneck: it gives {share:.2f} of what the model takes."
        if share < ENOUGH:
            return f"The input just keeps up: it gives {share:.2f} of what the model takes."
        return f"The model is the bottleneck: the input gives {share:,.1f} times what it takes."

    def _cores_sentence(self) -> str:
        need = self.cores_per_accelerator
        needed = (
            f"One {self.device} needs {_count(math.ceil(need), 'core')} of input ({need:.2f} busy)"
        )
        if self.device == "CPU":
            return f"{needed}, which the step shares with it here."
        return f"{needed}; the {_count(self.cores, 'core')} here feed {self.accelerators_fed:,.1f}."

    def _step(self, rate: Rate) -> str:
        return f"{self._step_ms(rate):,.1f} ms a step"

    def _step_ms(self, rate: Rate) -> float:
        return 1000 * 2 * self.global_batch_size / rate.images_per_s


def _rate(rate: Rate) -> str:
    return f"{rate.images_per_s:>10,.0f} images/s"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 or what.isupper() else 's'}"
