"""tf.data that parses a batch at once and decodes it in one numpy_function with simplejpeg and OpenCV."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from benchmarks.input_peers import pixels, records_tf
from benchmarks.side_by_side.workload import Workload


def batches(work: Workload) -> Iterator[tf.Tensor]:
    """As many batches at once as there are cores."""

    def load(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        encoded = [image for pair in zip(first, second, strict=True) for image in pair]
        return pixels.load_batch(encoded, work.side).reshape(-1, 2, work.side, work.side, 3)

    def parse_and_load(data: tf.Tensor) -> tf.Tensor:
        pairs = tf.io.parse_example(data, records_tf.FEATURES)
        images = tf.numpy_function(
            load, [pairs[name] for name in records_tf.IMAGES], tf.uint8, stateful=False
        )
        return tf.ensure_shape(images, (work.batch_size, 2, work.side, work.side, 3))

    batched = records_tf.shuffled(work).batch(work.batch_size, drop_remainder=True)
    return iter(
        batched.map(parse_and_load, num_parallel_calls=work.cores).prefetch(tf.data.AUTOTUNE)
    )
