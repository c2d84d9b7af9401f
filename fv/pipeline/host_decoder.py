"""Records → batches by simplejpeg and OpenCV in threads of this process: the fastest way on a CPU (docs/pipeline.md)."""

import functools
from collections.abc import Callable, Iterable
from concurrent import futures

import numpy as np
import tensorflow as tf

from fv import preprocess, record, workers
from fv.pipeline import fields, leaving
from fv.pipeline.damage import BadRecords
from fv.pipeline.slices import Slice

_ALIGNMENT = 64  # bytes; TensorFlow takes over an array that is aligned so, and copies any other: 1.03 × per CPU-second
_CALLS_AHEAD = 2  # batches beside those being decoded: a finished one that waits for its turn must not idle a core


class HostDecoder:
    """Decodes whole batches, each by one of as many threads as there are cores; order is that of the records."""

    def __init__(
        self,
        image_size: int,
        crop_fraction: float,
        index_of: Callable[[tf.Tensor], tf.Tensor],
        parts: list[Slice],
        bad: BadRecords,
    ):
        """Args:
        image_size: side of the results in pixels.
        crop_fraction: side of the centre square that is kept, over the shorter side.
        index_of: the map from identities' names to their indices.
        parts: the slices that the records' indices count.
        bad: is told of records that do not decode, and says when they are too many.
        """
        self._image_size, self._crop_fraction, self._index_of = image_size, crop_fraction, index_of
        self._parts, self._bad = parts, bad

    def batches(self, records: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Full batches of (index, encoded)."""
        calls = workers.cores() + _CALLS_AHEAD
        waiting = tf.data.Options()
        waiting.threading.private_threadpool_size = calls + 1  # calls block: TensorFlow's own threads stay free for the step
        batches = records.batch(batch_size, drop_remainder=True)  # of encoded records: one call of Python for all of them
        return batches.map(self._decode, num_parallel_calls=calls, deterministic=True).with_options(waiting)

    def padded_batches(self, records: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """As `batches`, then batches of padding for ever."""
        hole = (tf.constant(fields.NO_RECORD, tf.int64), tf.constant(fields.HOLE))
        return self.batches(records.concatenate(tf.data.Dataset.from_tensors(hole).repeat()), batch_size)

    def _decode(self, indices: tf.Tensor, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        pairs = fields.parse_batch(encoded)
        arguments = [indices, pairs[record.LABEL], *(pairs[name] for name in fields.IMAGES)]
        # A pure function, so that op determinism lets its calls run in parallel.
        images, valid = tf.numpy_function(self._load_in_thread, arguments, (tf.uint8, tf.bool), stateful=False)
        shape = (encoded.shape[0], 2, self._image_size, self._image_size, preprocess.CHANNELS)
        valid = tf.ensure_shape(valid, shape[:1])
        return {
            "images": tf.ensure_shape(images, shape),
            "label": tf.where(valid, tf.cast(pairs[record.LABEL], tf.int32), record.IMPOSTOR),
            "identities": self._index_of(fields.identities(pairs)),
            "valid": valid,
        }

    def _load_in_thread(self, *arguments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with leaving.calls:
            return decoding_threads().submit(self._load, *arguments).result()

    def _load(self, indices: np.ndarray, labels: np.ndarray, *encoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = aligned_array((len(indices), 2, self._image_size, self._image_size, preprocess.CHANNELS))
        rows = zip(indices, labels, zip(*encoded, strict=True), images, strict=True)
        valid = np.array([self._load_pair(*row) for row in rows])
        if not valid.all():
            images[~valid] = images[valid.argmax()] if valid.any() else 0  # sane pixels, for BatchNorm's statistics
        return images, valid

    def _load_pair(self, index: int, label: int, encoded: tuple[bytes, bytes], images: np.ndarray) -> bool:
        """Whether the record was sound; a hole is not, but was reported by who made it."""
        if is_hole(label, encoded):
            return False
        reason = damaged_label(label) or self._decode_pair(encoded, images)
        if reason:
            self._bad.add_record(self._parts, int(index), reason)
        return not reason

    def _decode_pair(self, encoded: tuple[bytes, bytes], images: np.ndarray) -> str:
        """Decodes both images; returns what is wrong with one, "" where nothing is."""
        for name, data, image in zip(fields.IMAGES, encoded, images, strict=True):
            try:
                preprocess.load_on_host(data, self._crop_fraction, image)
            except tf.errors.InvalidArgumentError:
                return no_jpeg(name)
        return ""


@functools.lru_cache(maxsize=1)
def decoding_threads() -> futures.Executor:
    """As many threads as there are cores, shared by all that decodes in this process."""
    return futures.ThreadPoolExecutor(workers.cores(), "decode")


def is_hole(label: int, encoded: Iterable[bytes]) -> bool:
    """Whether these are the fields of `fields.HOLE`."""
    return label == fields.MISSING_LABEL and not any(encoded)


def damaged_label(label: int) -> str:
    """What is wrong with a label, "" where nothing is."""
    return "" if label in (record.GENUINE, record.IMPOSTOR) else f"{record.LABEL} is missing or neither 0 nor 1"


def no_jpeg(name: str) -> str:
    """What is said of an image that does not decode."""
    return f"{name} is no whole JPEG"


def aligned_array(shape: tuple[int, ...]) -> np.ndarray:
    """Uninitialised uint8 memory that TensorFlow takes over without a copy."""
    size = int(np.prod(shape))
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)
