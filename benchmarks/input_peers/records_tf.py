"""fv's records in tf.data, for the peers that read them with TensorFlow's own ops."""

import tensorflow as tf

from benchmarks.side_by_side.workload import Workload
from fv import record

IMAGES = (record.IMAGE_A, record.IMAGE_B)
FEATURES = {name: tf.io.FixedLenFeature([], tf.string) for name in IMAGES} | {
    record.LABEL: tf.io.FixedLenFeature([], tf.int64)
}


def shuffled(work: Workload) -> tf.data.Dataset:
    """Serialised records without end."""
    return tf.data.TFRecordDataset(work.shard_paths()).shuffle(work.shuffle_buffer, seed=0).repeat()


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """uint8 [height, width, 3], bit-exact with libjpeg's accurate DCT."""
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def resize(image: tf.Tensor, side: int) -> tf.Tensor:
    """float32 [side, side, 3], bilinear."""
    return tf.ensure_shape(tf.image.resize(image, (side, side)), (side, side, 3))
