"""A user's own shards, host and model, measured: the pipeline alone, the step alone, and both."""

import dataclasses

import tensorflow as tf

from fv import manifest as manifests
from fv import workers
from fv.benchmarking import metering, stepping
from fv.benchmarking.report import Report
from fv.errors import UserError
from fv.model.options import ModelOptions
from fv.options import group, option, required
from fv.pipeline import damage
from fv.pipeline.augment import AugmentOptions
from fv.pipeline.damage import BadRecords
from fv.pipeline.options import InputOptions
from fv.pipeline.source import PairSource
from fv.training import feeding
from fv.training import strategy as strategies
from fv.training.options import OptimizerOptions, StrategyOptions, TrainOptions
from fv.training.position import Position

ONE_HOST = ("one_device", "mirrored")


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
    warm_up: float = option(2.0, "Seconds before each, which do not count.", lower=0.0)
    json: str | None = option(None, "File to write the figures to.")

    def training(self) -> TrainOptions:
        """The same choices as a training run's."""
        ours, theirs = (
            {field.name for field in dataclasses.fields(each)} for each in (self, TrainOptions)
        )
        return TrainOptions(workdir="", **{name: getattr(self, name) for name in ours & theirs})


def benchmark(options: BenchmarkOptions) -> Report:
    """Measures what the host feeds, what the model takes, and the two together.

    Raises:
      UserError: shards, devices or flags do not fit each other.
    """
    if options.compute.strategy not in ONE_HOST:
        raise UserError(
            f"--strategy={options.compute.strategy} is not measured: one host is, with {' or '.join(ONE_HOST)}"
        )
    options.input.check()
    source = feeding.training_source(options.training(), manifests.load(options.tfrecords))
    strategy = strategies.start(options.compute, options.seed)
    strategies.check_divides(
        strategy, options.global_batch_size, options.optimization.accumulate_steps
    )
    bad = BadRecords(options.tfrecords, options.input.max_bad_records)
    with damage.reported(source.folder, source.split.shards, bad):
        return _measure(options, strategy, source, bad)


def _measure(
    options: BenchmarkOptions, strategy: tf.distribute.Strategy, source: PairSource, bad: BadRecords
) -> Report:
    training, spans = options.training(), dict(seconds=options.seconds, warm_up_s=options.warm_up)
    batches = feeding.training_batches(strategy, source, training, Position(), bad)
    images = (
        2 * options.global_batch_size // options.optimization.accumulate_steps
    )  # a step of parts takes a batch for each
    host = metering.measure(batches, lambda _: images, **spans)
    stepper = stepping.Stepper(strategy, training, len(source.identities))
    model, _ = stepper.measure(stepping.repeated_batch(strategy, batches), **spans)
    together, input_share = stepper.measure(batches, **spans)
    return Report(
        host=host,
        model=model,
        together=together,
        input_share=input_share,
        cores=workers.cores(),
        accelerators=strategy.num_replicas_in_sync,
        device="GPU" if tf.config.list_physical_devices("GPU") else "CPU",
        global_batch_size=options.global_batch_size,
    )
