"""Measures the input pipeline alone, training steps alone, and both together on a machine."""

import dataclasses
import math
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from fv import manifest, metering, workers
from fv.errors import UserError
from fv.metering import Rate
from fv.model import siamese
from fv.options import option
from fv.pipeline import damage
from fv.pipeline.damage import DamagedRecords
from fv.training import feeding, optimizers
from fv.training import strategy as strategies
from fv.training.optimizers import Updater
from fv.training.options import TrainOptions
from fv.training.run_record import Position
from fv.training.step import TrainStep

WARM_UP_S = 2.0  # before each measurement: buffers fill and tf.data tunes itself
_ONE_HOST = ("one_device", "mirrored")
_ENOUGH = 1.1  # input over model; below it, the input delays a step now and then
_CALL_S = 0.5  # of steps in one call, about as between two lines of a training log
_MOST_STEPS = 50  # in one call


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions(TrainOptions):
    """The options of a training run and those of the measurement.

    Neither first weights nor averages nor a teacher are part of the measured step.
    """

    workdir: str = option("", "Not used, as all flags that do not change the speed of a step.")
    seconds: float = option(5.0, "Seconds of each of the three measurements.", lower=0.01)
    json: str | None = option(None, "File to write the figures to.")


@dataclasses.dataclass(frozen=True)
class Report:
    """The rates of one training configuration.

    Attributes:
      host: rate of the input pipeline alone.
      model: rate of training steps on a batch in memory.
      together: rate of training steps on the pipeline's batches.
      input_share: share of the time together that the device waits for a batch, [0, 1].
      cores: number that this process may use.
      accelerators: number of replicas, each on its own device.
      device: "CPU" or "GPU".
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
        """The slower of "input" and "model"."""
        return "input" if self.host.images_per_s < self.model.images_per_s else "model"

    @property
    def cores_per_accelerator(self) -> float:
        """Busy cores that feed one accelerator: its rate over the rate of a core."""
        return self.model.images_per_s / self.accelerators / self.host.images_per_cpu_s

    @property
    def accelerators_fed(self) -> float:
        """Number of such accelerators that this host feeds."""
        return self.host.images_per_s / (self.model.images_per_s / self.accelerators)

    def figures(self) -> dict:
        """Returns all figures as JSON values."""
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
        """Returns a line for each rate, and the verdict."""
        steps = f"{self._step_ms(self.model):,.1f} ms a step"
        steps_with_input = f"{self._step_ms(self.together):,.1f} ms a step"
        rows = [
            ("input alone", self.host, f"{self.host.images_per_cpu_s:,.0f} per CPU second"),
            ("model alone", self.model, steps),
            ("both together", self.together, f"{steps_with_input}, {self.input_share:.0%} waiting"),
        ]
        lines = [
            f"{name:<15}{rate.images_per_s:>10,.0f} images/s, {detail}"
            for name, rate, detail in rows
        ]
        return [*lines, self.verdict()]

    def verdict(self) -> str:
        """Returns a sentence about the bottleneck and one about the cores."""
        ratio = self.host.images_per_s / self.model.images_per_s
        if ratio < 1:
            slower = f"The input is the bottleneck: it gives {ratio:.2f} of what the model takes."
        elif ratio < _ENOUGH:
            slower = f"The input just keeps up: it gives {ratio:.2f} of what the model takes."
        else:
            slower = f"The model is the bottleneck: the input gives {ratio:,.1f} times its rate."
        need = self.cores_per_accelerator
        cores = f"{math.ceil(need)} cores of input ({need:.2f} busy)"
        if self.device == "CPU":
            return f"{slower} The CPU needs {cores}, which the step shares with it."
        fed = f"the {self.cores} cores here feed {self.accelerators_fed:,.1f}"
        return f"{slower} One {self.device} needs {cores}; {fed}."

    def _step_ms(self, rate: Rate) -> float:
        return 1000 * 2 * self.global_batch_size / rate.images_per_s


def benchmark(options: BenchmarkOptions) -> Report:
    """Measures the input pipeline, training steps, and both together.

    Raises:
      UserError: shards, devices or flags do not fit each other.
    """
    compute, parts = options.compute, options.optimization.accumulate_steps
    if compute.strategy not in _ONE_HOST:
        raise UserError(
            f"--strategy={compute.strategy} is not measured: choose {' or '.join(_ONE_HOST)}, "
            "which use one host"
        )
    options.input.check()
    options.teaching.check()
    source = feeding.training_source(options, manifest.load(options.tfrecords))
    source = dataclasses.replace(source, paths={})  # which are for a teacher
    strategy = strategies.start_strategy(compute, options.seed)
    strategies.check_divides(strategy, options.global_batch_size, parts)
    damaged = DamagedRecords(options.tfrecords, options.input.max_bad_records)
    with damage.name_damaged_record(source.folder, source.split.shards, damaged):
        batches = feeding.training_batches(strategy, source, options, Position(), damaged)
        images = 2 * options.global_batch_size // parts  # each part of a step takes a batch
        host = metering.measure(
            batches, lambda _: images, seconds=options.seconds, warm_up_s=WARM_UP_S
        )
        step = _build_step(strategy, options, len(source.identities))
        model, _ = _measure_steps(step, options, _repeat_batch(strategy, batches))
        together, input_share = _measure_steps(step, options, batches)
    return Report(
        host=host,
        model=model,
        together=together,
        input_share=input_share,
        cores=workers.available_cores(),
        accelerators=strategy.num_replicas_in_sync,
        device="GPU" if tf.config.list_physical_devices("GPU") else "CPU",
        global_batch_size=options.global_batch_size,
    )


def _build_step(
    strategy: tf.distribute.Strategy, options: TrainOptions, identities: int
) -> TrainStep:
    batch = options.global_batch_size
    with strategy.scope():
        model = siamese.build_siamese(
            options.model, identities, sync_batch_norm=options.sync_batch_norm
        )
        schedule = optimizers.build_schedule(options.optimization, options.steps, batch)
        updater = Updater(options.optimization, schedule, model)
    return TrainStep(
        strategy,
        model,
        updater,
        options.augmentation,
        global_batch_size=batch,
        seed=options.seed,
        xla=options.compute.xla,
    )


def _measure_steps(
    step: TrainStep, options: BenchmarkOptions, batches: Iterator
) -> tuple[Rate, float]:
    """Returns the rate of steps, and the share of the time that the device waited for a batch."""

    def run_calls() -> Iterator[int]:
        """Yields the images of each call; a call has as many steps as take about `_CALL_S`."""
        step.run(batches, 0, 1)  # compiles
        start = time.perf_counter()
        step.run(batches, 1, 1)
        count = int(np.clip(_CALL_S / (time.perf_counter() - start), 1, _MOST_STEPS))
        first = 2
        while True:
            step.run(batches, first, count)
            first += count
            yield 2 * options.global_batch_size * count

    before = dataclasses.replace(step.meter)
    rate = metering.measure(
        run_calls(), int, seconds=options.seconds, warm_up_s=WARM_UP_S, warm_up_images=1
    )
    return rate, step.meter.since(before).share


def _repeat_batch(strategy: tf.distribute.Strategy, batches: Iterator) -> Iterator:
    """Repeats the first batch on every replica: training without any input work."""
    first = {
        name: strategy.experimental_local_results(part)[0].numpy()
        for name, part in next(batches).items()
    }
    repeated = tf.data.Dataset.from_tensors(first).repeat()
    return iter(strategy.distribute_datasets_from_function(lambda _: repeated))
