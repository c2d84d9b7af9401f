"""Keras's ImageDataGenerator with Pillow, in one thread: what fv's predecessor trained with. float32 by nature."""

import contextlib
import os
from collections.abc import Iterator

import numpy as np
import tf_keras

from benchmarks.side_by_side.workload import Workload


def batches(work: Workload) -> Iterator[np.ndarray]:
    """Twice as many images as pairs in a batch, neighbours taken for a pair; an epoch's last batch is smaller."""
    reading = dict(target_size=(work.side, work.side), interpolation="bilinear", class_mode=None, seed=0)
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):  # it prints what it found
        generator = tf_keras.preprocessing.image.ImageDataGenerator()
        images = generator.flow_from_directory(work.images, batch_size=2 * work.batch_size, **reading)
    return (batch.reshape(-1, 2, *batch.shape[1:]) for batch in images)
