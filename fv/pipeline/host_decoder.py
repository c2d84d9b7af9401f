"""Records → batches by simplejpeg and OpenCV in threads of this process: the fastest way on a CPU (docs/pipeline.md)."""

import functools
import itertools
from collections.abc import Callable, Sequence
from concurrent import futures

import numpy as np
import tensorflow as tf

from fv import preprocess, record, workers
from fv.pipeline import fields, leaving
from fv.pipeline.damage import BadRecords
from fv.pipeline.slices import Slice

Read = Callable[[int], bytes | None]  # from an index to the record, None where it is damaged and was reported
_Row = tuple[int, list[int], bool]  # label, identities, valid

_ALIGNMENT = 64  # bytes; TensorFlow takes over an array that is aligned so, and copies any other: 1.03 × per CPU-second
_HOLE: _Row = (record.IMPOSTOR, [fields.NO_IDENTITY] * 2, False)
_CALLS_AHEAD = 2  # batches beside those being decoded: a finished one that waits for its turn must not idle a core


class HostDecoder:
    """Decodes whole batches, each by one of as many threads as there are cores; order is that of the records."""

    def __init__(
        self,
        image_size: int,
        crop_fraction: float,
        index_of: Callable[[Sequence[bytes]], list[int]],
        parts: Sequence[Slice],
        bad: BadRecords,
        read: Read | None = None,
    ):
        """Args:
        image_size: side of the results in pixels.
        crop_fraction: side of the centre square that is kept, over the shorter side.
        index_of: the map from a pair's identities to their indices.
        parts: the slices that the records' indices count.
        bad: is told of records that do not decode, and says when they are too many.
        read: gives the decoding threads a record by its index, where batches are made of those.
        """
        self._image_size, self._crop_fraction, self._index_of = image_size, crop_fraction, index_of
        self._parts, self._bad, self._read = parts, bad, read

    def batches(self, records: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Full batches of indices, int64, or of (index, encoded)."""
        calls = workers.cores() + _CALLS_AHEAD
        waiting = tf.data.Options()
        waiting.threading.private_threadpool_size = calls + 1  # calls block: TensorFlow's own threads stay free for the step
        batches = records.batch(batch_size, drop_remainder=True).prefetch(_CALLS_AHEAD)  # an epoch's start waits for nobody
        return batches.map(self._decode, num_parallel_calls=calls, deterministic=True).with_options(waiting)

    def padded_batches(self, records: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """As `batches`, then batches of padding for ever."""
        holes = (tf.constant(fields.NO_RECORD, tf.int64), tf.constant(b""))
        hole = holes if isinstance(records.element_spec, tuple) else holes[0]
        return self.batches(records.concatenate(tf.data.Dataset.from_tensors(hole).repeat()), batch_size)

    def _decode(self, *indices_and_encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        count = indices_and_encoded[0].shape[0]
        shapes = {
            "images": (count, 2, self._image_size, self._image_size, preprocess.CHANNELS),
            "label": (count,),
            "identities": (count, 2),
            "valid": (count,),
        }
        types = (tf.uint8, tf.int32, tf.int32, tf.bool)
        # A pure function, so that op determinism lets its calls run in parallel; one for a batch.
        values = tf.numpy_function(self._load_in_thread, indices_and_encoded, types, stateful=False)
        return {name: tf.ensure_shape(value, shapes[name]) for name, value in zip(shapes, values, strict=True)}

    def _load_in_thread(self, *indices_and_encoded: np.ndarray) -> tuple[np.ndarray, ...]:
        with leaving.calls:
            return decoding_threads().submit(self._load, *indices_and_encoded).result()

    def _load(self, indices: np.ndarray, encoded: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        images = aligned_array((len(indices), 2, self._image_size, self._image_size, preprocess.CHANNELS))
        numbers, given = indices.tolist(), itertools.repeat(None) if encoded is None else encoded.tolist()
        rows = list(map(self._load_pair, numbers, given, images))
        labels, identities, valid = (np.array(column) for column in zip(*rows, strict=True))
        if not valid.all():
            images[~valid] = images[valid.argmax()] if valid.any() else 0  # sane pixels, for BatchNorm's statistics
        return images, np.int32(labels), np.int32(identities), valid

    def _load_pair(self, index: int, given: bytes | None, images: np.ndarray) -> _Row:
        """Decodes a record, which is read where it is not given, into uint8 [2, image_size, image_size, 3]."""
        if index == fields.NO_RECORD:
            return _HOLE
        encoded = self._read(index) if given is None else given
        if encoded is None:
            return _HOLE
        try:
            pair = fields.parse_on_host(encoded)
            load_image(fields.IMAGES[0], pair.images[0], self._crop_fraction, images[0])
            load_image(fields.IMAGES[1], pair.images[1], self._crop_fraction, images[1])
        except record.DamagedRecordError as error:
            self._bad.add_record(self._parts, index, str(error))
            return _HOLE
        return pair.label, self._index_of(pair.identities), True


@functools.lru_cache(maxsize=1)
def decoding_threads() -> futures.Executor:
    """As many threads as there are cores, shared by all that decodes in this process."""
    return futures.ThreadPoolExecutor(workers.cores(), "decode")


def load_image(name: str, encoded: bytes, crop_fraction: float, result: np.ndarray) -> None:
    """`preprocess.load_on_host` of the field of that name.

    Raises:
      DamagedRecordError: no whole JPEG.
    """
    try:
        preprocess.load_on_host(encoded, crop_fraction, result)
    except tf.errors.InvalidArgumentError as error:
        raise record.DamagedRecordError(no_jpeg(name)) from error


def no_jpeg(name: str) -> str:
    """What is said of an image that does not decode."""
    return f"{name} is no whole JPEG"


def aligned_array(shape: tuple[int, ...]) -> np.ndarray:
    """Uninitialised uint8 memory that TensorFlow takes over without a copy."""
    size = int(np.prod(shape))
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)
