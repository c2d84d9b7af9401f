"""Measures a user's own shards, host and model: the input alone, the step alone, and both."""

import dataclasses
import math
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from fv import manifest as manifests
from fv import metering, workers
from fv.errors import UserError
from fv.metering import Rate
from fv.model import siamese
from fv.model.options import ModelOptions
from fv.options import group, option, required
from fv.pipeline import damage
from fv.pipeline.augment import AugmentOptions
from fv.pipeline.damage import BadRecords
from fv.pipeline.options import InputOptions
from fv.training import feeding, optimizers
from fv.training import strategy as strategies
from fv.training.optimizers import Updater
from fv.training.options import OptimizerOptions, StrategyOptions, TrainOptions
from fv.training.run_record import Position
from fv.training.step import TrainStep

_ONE_HOST = ("one_device", "mirrored")
_ENOUGH = 1.1  # times what the model takes; below it, the input delays a step now and then
WARM_UP_S = 2.0  # before each measurement: buffers fill and tf.data tunes itself
_CALL_S = 0.5  # of steps in one call, about as between two lines of a training log
_MOST_STEPS = 50  # in one call


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured; the flags of a training run that change its speed, with their names."""

    tfrecords: str = required("folder of shards that tools/make_tfrecords.py wrote.")
    model: ModelOptions = group(ModelOptions)
    sync_batch_norm: bool = option(False, "Normalise by the statistics of all replicas together.")
    augmentation: AugmentOptions = group(AugmentOptions)
    compute: StrategyOptions = group(StrategyOptions)
    optimization: OptimizerOptions = group(OptimizerOptions)
    global_batch_size: int = option(32, "Pairs per step over all replicas.", lower=1)
    input: InputOptions = group(InputOptions)
    seed: int = option(0, "Of order and weights.", lower=0, upper=2**31 - 1)
    seconds: float = option(5.0, "How long each of the three is measured.", lower=0.01)
    json: str | None = option(None, "File to write the figures to.")

    def training(self) -> TrainOptions:
        """The same choices as those of a training run."""
        ours, theirs = (
            {field.name for field in dataclasses.fields(each)} for each in (self, TrainOptions)
        )
        return TrainOptions(workdir="", **{name: getattr(self, name) for name in ours & theirs})


@dataclasses.dataclass(frozen=True)
class Report:
    """The rates of one training configuration.

    Attributes:
      host: of the input pipeline alone.
      model: of training steps on a batch that is there already.
      together: of training steps on the pipeline's batches.
      input_share: share of the time together that the device waited for a batch, [0, 1].
      cores: that this process may use.
      accelerators: replicas, each on a device of its own.
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
        """Busy cores that feed one accelerator: what it takes over what a core delivers."""
        return self.model.images_per_s / self.accelerators / self.host.images_per_cpu_s

    @property
    def accelerators_fed(self) -> float:
        """Number of such accelerators that the cores of this host feed."""
        return self.host.images_per_s / (self.model.images_per_s / self.accelerators)

    def figures(self) -> dict:
        """All figures as JSON values."""
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
        """The rates for a reader, the verdict last."""
        details = {
            "input alone": (self.host, f"{self.host.images_per_cpu_s:,.0f} per CPU second"),
            "model alone": (self.model, f"{self._step_ms(self.model):,.1f} ms a step"),
            "both together": (
                self.together,
                f"{self._step_ms(self.together):,.1f} ms a step, {self.input_share:.0%} waiting",
            ),
        }
        rates = [
            f"{name:<15}{rate.images_per_s:>10,.0f} images/s, {detail}"
            for name, (rate, detail) in details.items()
        ]
        return [*rates, self.verdict()]

    def verdict(self) -> str:
        """One sentence about the bottleneck and one about the cores."""
        ratio = self.host.images_per_s / self.model.images_per_s
        if ratio < 1:
            slower = f"The input is the bottleneck: it gives {ratio:.2f} of what the model takes."
        elif ratio < _ENOUGH:
            slower = f"The input just keeps up: it gives {ratio:.2f} of what the model takes."
        else:
            slower = (
                f"The model is the bottleneck: the input gives {ratio:,.1f} times what it takes."
            )
        need = self.cores_per_accelerator
        cores = f"{math.ceil(need)} cores of input ({need:.2f} busy)"
        if self.device == "CPU":
            return f"{slower} The CPU needs {cores}, which the step shares with it."
        fed = f"the {self.cores} cores here feed {self.accelerators_fed:,.1f}"
        return f"{slower} One {self.device} needs {cores}; {fed}."

    def _step_ms(self, rate: Rate) -> float:
        return 1000 * 2 * self.global_batch_size / rate.images_per_s


def benchmark(options: BenchmarkOptions) -> Report:
    """Measures what the host feeds, what the model takes, and the two together.

    Raises:
      UserError: shards, devices or flags do not fit each other.
    """
    compute, training = options.compute, options.training()
    if compute.strategy not in _ONE_HOST:
        several = f"--strategy={compute.strategy} is not measured"
        raise UserError(f"{several}: choose {' or '.join(_ONE_HOST)}, which use one host")
    options.input.check()
    source = feeding.training_source(training, manifests.load(options.tfrecords))
    strategy = strategies.start_strategy(compute, options.seed)
    parts = options.optimization.accumulate_steps
    strategies.check_divides(strategy, options.global_batch_size, parts)
    bad = BadRecords(options.tfrecords, options.input.max_bad_records)
    with damage.report_damaged_record(source.folder, source.split.shards, bad):
        batches = feeding.training_batches(strategy, source, training, Position(), bad)
        images = 2 * options.global_batch_size // parts  # each part of a step takes a batch
        seconds = options.seconds
        host = metering.measure(batches, lambda _: images, seconds=seconds, warm_up_s=WARM_UP_S)
        step = _build_step(strategy, training, len(source.identities))
        model, _ = _measure_steps(step, training, _repeat_batch(strategy, batches), seconds)
        together, input_share = _measure_steps(step, training, batches, seconds)
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
    """A training step of fresh weights."""
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
    step: TrainStep, options: TrainOptions, batches: Iterator, seconds: float
) -> tuple[Rate, float]:
    """The rate of steps, and the share of the time that the device waited for a batch."""

    def calls() -> Iterator[int]:
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
    rate = metering.measure(calls(), int, seconds=seconds, warm_up_s=WARM_UP_S, warm_up_images=1)
    return rate, step.meter.since(before).share


def _repeat_batch(strategy: tf.distribute.Strategy, batches: Iterator) -> Iterator:
    """The first batch, over and over on every replica: training without any input work."""
    first = {
        name: strategy.experimental_local_results(part)[0].numpy()
        for name, part in next(batches).items()
    }
    repeated = tf.data.Dataset.from_tensors(first).repeat()
    return iter(strategy.distribute_datasets_from_function(lambda _: repeated))
