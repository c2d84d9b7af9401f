"""tf.data with one fused map: parse, decode, resize; uint8 out."""

from collections.abc import Iterator

import tensorflow as tf

from benchmarks.input_peers import records_tf
from benchmarks.side_by_side.workload import Workload


def batches(work: Workload) -> Iterator[tf.Tensor]:
    """Images alone; the label is parsed and dropped."""
    pairs = records_tf.shuffled(work).map(
        lambda data: _load(data, work.side), num_parallel_calls=tf.data.AUTOTUNE
    )
    batched = pairs.batch(work.batch_size).prefetch(tf.data.AUTOTUNE)
    return (images for images, _ in batched)


def _load(data: tf.Tensor, side: int) -> tuple[tf.Tensor, tf.Tensor]:
    pair = tf.io.parse_single_example(data, records_tf.FEATURES)
    images = [records_tf.resize(records_tf.decode(pair[name]), side) for name in records_tf.IMAGES]
    return tf.cast(tf.round(tf.stack(images)), tf.uint8), pair[records_tf.record.LABEL]
