"""The pipeline on other hosts: a tf.data service decodes, this process indexes identities and trains.

Promised is what tf.data's dynamic sharding promises. In an epoch without failures every record comes exactly once, in no
fixed order. A worker that dies takes what it held out of that epoch (its open shards and its shuffle buffer); TensorFlow
documents that nothing of it comes twice. The workers that are left go on with all records; only a stream of counted epochs
has no end then. A restarted training run begins an epoch anew.
"""

import numpy as np
import tensorflow as tf

from fv.pipeline import fields, order
from fv.pipeline.slices import Slice
from fv.pipeline.source import PairSource
from fv.pipeline.tensorflow_decoder import TensorFlowDecoder

_SHARDS_READ_AT_ONCE = (
    2  # a worker opens as many at its start: with more, few shards would not go round
)


def batches(
    source: PairSource,
    parts: list[Slice],
    address: str,
    *,
    batch_size: int,
    seed: int,
    shuffle_buffer: int,
    epochs: int | None = None,
) -> tf.data.Dataset:
    """Batches as `input_pipeline.training_batches` gives them, from the service at `address`, grpc://HOST:PORT.

    Args:
      parts: the slices of this input worker; each is dealt to one of the service's workers, which must find it by its path.
      epochs: how often they are dealt; without end by default.

    The other arguments are those of `input_pipeline.training_batches`.
    """
    decoder = TensorFlowDecoder(
        source.image_size, source.crop_fraction
    )  # names travel, a lookup table does not
    dealt = [parts[place] for place in np.random.default_rng(seed).permutation(len(parts))]
    dynamic = tf.data.experimental.service.ShardingPolicy.DYNAMIC
    index_of = fields.indexing(source.identities)
    return (
        order.slice_dataset(
            dealt
        )  # not shuffled: a buffer would make the first worker take all of them
        .repeat(epochs)
        .interleave(order.read_records, cycle_length=_SHARDS_READ_AT_ONCE)
        .shuffle(shuffle_buffer, seed=seed)
        .apply(lambda records: decoder.batches(records, batch_size))
        .apply(tf.data.experimental.service.distribute(dynamic, address))
        .map(lambda batch: batch | {"identities": index_of(batch["identities"])})
    )
