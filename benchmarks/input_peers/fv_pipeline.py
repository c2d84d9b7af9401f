"""fv's own training pipeline, as `python -m fv.train` calls it."""

from collections.abc import Iterator

import tensorflow as tf

from benchmarks.side_by_side.workload import Workload
from fv import manifest
from fv.pipeline import input_pipeline
from fv.pipeline.options import InputOptions
from fv.pipeline.source import PairSource


def batches(work: Workload) -> Iterator[tf.Tensor]:
    """The images of fv's batches; labels and identities come with them."""
    source = PairSource.of(
        work.shards, manifest.load(work.shards), "train", work.side, crop_fraction=1.0
    )
    shuffled = dict(batch_size=work.batch_size, seed=0, shuffle_buffer=work.shuffle_buffer)
    options = InputOptions(decoder=work.decoder, cache=work.cache)
    return (
        batch["images"]
        for batch in input_pipeline.training_batches(source, **shuffled, options=options)
    )
