"""One precision, compiled by XLA or not, in a process of its own: python -m benchmarks.precision_parts.contestant WORK NAME

Prints the time of each stamp, seconds since 1970, one a line, and before it the most memory so far, as 'peak BYTES'.
"""

import resource
import sys
import time

from fv import quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise

# isort: split

import tensorflow as tf

from benchmarks.training_peers import synthetic
from benchmarks.training_peers import work as works
from benchmarks.training_peers.work import Work
from fv.model import siamese
from fv.model.options import ModelOptions
from fv.pipeline.augment import AugmentOptions
from fv.training import strategy as strategies
from fv.training.step import TrainStep
from fv.training.strategy_options import StrategyOptions
from fv.training.updates import schedule
from fv.training.updates.optimizer_options import OptimizerOptions
from fv.training.updates.updater import Updater

IDENTITIES, STEPS = 1000, 10**6
BYTES_PER_RUSAGE_UNIT = 1024


def main(path: str, precision: str, compiled: str) -> None:
    """Trains on one batch in memory until it is killed."""
    work = works.load(path)
    strategy = strategies.start(StrategyOptions(precision=precision), works.SEED)
    step = _step(work, strategy, xla=compiled == "xla")
    batches = synthetic.ConstantBatches(
        strategy, synthetic.noise(work.pairs, work.image_size, IDENTITIES, works.SEED)
    )
    for first in range(0, STEPS, work.stamp_steps):
        step.run(batches, first, work.stamp_steps)
        print("peak", _peak_bytes(), flush=True)
        print(repr(time.time()), flush=True)


def _step(work: Work, strategy: tf.distribute.Strategy, *, xla: bool) -> TrainStep:
    model_options = ModelOptions(image_size=work.image_size, embedding_size=work.embedding_size)
    options = OptimizerOptions(learning_rate=work.learning_rate)
    with strategy.scope():
        model = siamese.build_siamese(model_options, IDENTITIES)
        updater = Updater(options, schedule.build_schedule(options, STEPS, work.pairs), model)
    plain = AugmentOptions(augment=False)
    return TrainStep(
        strategy, model, updater, plain, global_batch_size=work.pairs, seed=works.SEED, xla=xla
    )


def _peak_bytes() -> int:
    """On a GPU of its memory, else of the process's."""
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_RUSAGE_UNIT


if __name__ == "__main__":
    main(*sys.argv[1:])
