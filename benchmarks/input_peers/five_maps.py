"""tf.data with a map for each of parsing, decoding, casting, resizing and stacking; float32 out: how tutorials write it."""

from collections.abc import Iterator

import tensorflow as tf

from benchmarks.input_peers import records_tf
from benchmarks.side_by_side.workload import Workload


def batches(work: Workload) -> Iterator[tf.Tensor]:
    """Images as float32, 0 to 255."""
    stages = [
        lambda data: tf.io.parse_single_example(data, records_tf.FEATURES),
        lambda pair: tuple(records_tf.decode(pair[name]) for name in records_tf.IMAGES),
        lambda *images: tuple(tf.cast(image, tf.float32) for image in images),
        lambda *images: tuple(records_tf.resize(image, work.side) for image in images),
        lambda *images: tf.stack(images),
    ]
    dataset = records_tf.shuffled(work)
    for stage in stages:
        dataset = dataset.map(stage, num_parallel_calls=tf.data.AUTOTUNE)
    return iter(dataset.batch(work.batch_size).prefetch(tf.data.AUTOTUNE))
