"""Keras's image_dataset_from_directory over folders of JPEGs; float32 by nature, images and not pairs: two make a pair."""

from collections.abc import Iterator

import tensorflow as tf
import tf_keras

from benchmarks.side_by_side.workload import Workload


def batches(work: Workload) -> Iterator[tf.Tensor]:
    """Twice as many images as pairs in a batch, neighbours taken for a pair."""
    size = dict(image_size=(work.side, work.side), batch_size=None)
    images = tf_keras.utils.image_dataset_from_directory(work.images, labels=None, shuffle=True, seed=0, **size)
    batched = images.repeat().batch(2 * work.batch_size).prefetch(tf.data.AUTOTUNE)
    return (tf.reshape(batch, (-1, 2, *batch.shape[1:])) for batch in batched)
