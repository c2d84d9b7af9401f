"""How fast training steps run, on any stream of batches."""

import dataclasses
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from fv.benchmarking import metering
from fv.model import siamese
from fv.training.options import TrainOptions
from fv.training.step import TrainStep
from fv.training.updates import schedule as schedules
from fv.training.updates.updater import Updater

_CALL_S = 0.5  # about how long the device works before the host looks again, as between two lines of a training log
_MOST_STEPS = 50  # in one call


class Stepper:
    """A training step of fresh weights, compiled once."""

    def __init__(self, strategy: tf.distribute.Strategy, options: TrainOptions, identities: int):
        with strategy.scope():
            model = siamese.build_siamese(
                options.model, identities, sync_batch_norm=options.sync_batch_norm
            )
            schedule = schedules.build_schedule(
                options.optimization, options.steps, options.global_batch_size
            )
            updater = Updater(options.optimization, schedule, model)
        self._batch = options.global_batch_size
        self._step = TrainStep(
            strategy,
            model,
            updater,
            options.augmentation,
            global_batch_size=self._batch,
            seed=options.seed,
            xla=options.compute.xla,
        )

    def measure(
        self, batches: Iterator, seconds: float, warm_up_s: float
    ) -> tuple[metering.Rate, float]:
        """Runs steps on distributed batches for about so long, after a warm-up and one call that compiles.

        Returns:
          The rate, and the share of the time that the device waited for a batch, the warm-up included.
        """
        calls, before = self._calls(batches), dataclasses.replace(self._step.meter)
        rate = metering.measure(calls, int, seconds=seconds, warm_up_s=warm_up_s, warm_up_images=1)
        return rate, self._step.meter.since(before).share

    def _calls(self, batches: Iterator) -> Iterator[int]:
        """Yields the images of each call, whose number of steps follows from how long a step takes."""
        self._step.run(batches, 0, 1)  # compiles
        start = time.perf_counter()
        self._step.run(batches, 1, 1)
        steps = int(np.clip(_CALL_S / (time.perf_counter() - start), 1, _MOST_STEPS))
        first = 2
        while True:
            self._step.run(batches, first, steps)
            first += steps
            yield 2 * self._batch * steps


def repeated_batch(strategy: tf.distribute.Strategy, batches: Iterator) -> Iterator:
    """The first of the distributed batches, over and over on every replica: training without any input work."""
    first = {
        name: strategy.experimental_local_results(part)[0].numpy()
        for name, part in next(batches).items()
    }
    repeated = tf.data.Dataset.from_tensors(first).repeat()
    return iter(strategy.distribute_datasets_from_function(lambda _: repeated))
