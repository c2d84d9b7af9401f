"""What each replica is fed: the pipeline's batches, distributed by the strategy."""

from collections.abc import Iterator

import tensorflow as tf

from fv.pipeline import input_pipeline
from fv.pipeline.input_pipeline import PairSource
from fv.training.options import TrainOptions


def training_batches(
    strategy: tf.distribute.Strategy, source: PairSource, options: TrainOptions, first_step: int
) -> Iterator:
    """The training stream behind `first_step` steps, in per-replica batches."""

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return input_pipeline.training_batches(
            source,
            seed=options.seed,
            shuffle_buffer=options.shuffle_buffer,
            start_record=first_step * options.global_batch_size // context.num_input_pipelines,
            **_share(context, options),
        )

    return iter(strategy.distribute_datasets_from_function(batches))


def validation_batches(strategy: tf.distribute.Strategy, source: PairSource, options: TrainOptions) -> tf.data.Dataset:
    """All pairs of the source, in per-replica batches as large as in training."""

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return input_pipeline.evaluation_batches(
            source,
            replicas=context.num_replicas_in_sync // context.num_input_pipelines,
            **_share(context, options),
        )

    return strategy.distribute_datasets_from_function(batches)


def _share(context: tf.distribute.InputContext, options: TrainOptions) -> dict[str, int]:
    """What this input worker reads, and in batches of which size."""
    return {
        "batch_size": context.get_per_replica_batch_size(options.global_batch_size),
        "worker": context.input_pipeline_id,
        "workers": context.num_input_pipelines,
    }
