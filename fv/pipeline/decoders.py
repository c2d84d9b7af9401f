"""Records → batches, in one of two ways that give the same pixels (resized ones within one level).

`HostDecoder` decodes with simplejpeg and OpenCV in processes of their own, and counts the records
that do not decode. `TensorFlowDecoder` decodes with TensorFlow's kernels, as the exported graph
does; it works in a tf.data service, too, and raises at a record that does not decode.
"""

import atexit
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from fv import image_ops, record, workers
from fv.errors import UserError
from fv.pipeline import damage, decoding_processes
from fv.pipeline.decoding_processes import UNDECODED, BatchMemory, RecordSource
from fv.pipeline.shards import ShardReader

BATCH_TYPES = {"images": tf.uint8, "label": tf.int32, "identities": tf.int32, "valid": tf.bool}
_PADDING = -1  # index of a place in a batch without a record
_INDEX_BATCHES_AHEAD = 2  # so that no batch waits for the start of an epoch
_CALLS_PER_CORE = 2  # of TensorFlow's decoder: 1.06 × as fast as AUTOTUNE
_QUIET_SECONDS = 0.1  # without a call: the pipeline's buffers are full, and it makes no more
_EXIT_SECONDS = 5.0  # that the end of the process waits for calls at most
_NO_NAMES = ("",)  # a lookup table cannot be empty, and no identity has an empty name

_FEATURES = {name: tf.io.FixedLenFeature([], tf.string) for name in record.BYTES_FIELDS}
_FEATURES |= {name: tf.io.FixedLenFeature([], tf.int64) for name in record.INT64_FIELDS}


class HostDecoder:
    """Decodes each batch in one of as many processes as there are cores, in the records' order."""

    def __init__(
        self,
        image_size: int,
        crop_fraction: float,
        index_of: Callable[[Sequence[bytes]], list[int]],
        reader: ShardReader,
        held: Sequence[bytes | None] | None = None,
    ):
        """Args:
        image_size: side of the results in pixels.
        crop_fraction: side of the centre square that is kept, over the shorter side.
        index_of: the map from a pair's identities to their indices.
        reader: reads the records by their indices, and counts those that do not decode.
        held: the records in memory by their indices, where a cache holds them.
        """
        self._image_size, self._crop_fraction, self._index_of = image_size, crop_fraction, index_of
        self._reader = reader
        self._read = reader.read if held is None else held.__getitem__
        self._source = reader.locate if held is None else held.__getitem__

    def batches(self, records: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Full batches of indices, int64, or of (index, encoded)."""
        calls = decoding_processes.shared_processes().calls
        options = tf.data.Options()
        # Calls block: in a pool of their own they leave TensorFlow's threads to the step.
        options.threading.private_threadpool_size = calls + 1
        batches = records.batch(batch_size, drop_remainder=True).prefetch(_INDEX_BATCHES_AHEAD)
        decoded = batches.map(
            self._decode_op(batch_size), num_parallel_calls=calls, deterministic=True
        )
        return decoded.with_options(options)

    def padded_batches(self, records: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """As `batches`, then batches of padding without end."""
        padding = (tf.constant(_PADDING, tf.int64), tf.constant(b""))
        element = padding if isinstance(records.element_spec, tuple) else padding[0]
        padded = records.concatenate(tf.data.Dataset.from_tensors(element).repeat())
        return self.batches(padded, batch_size)

    def _decode_op(self, batch_size: int) -> Callable[..., dict[str, tf.Tensor]]:
        images = (batch_size, 2, self._image_size, self._image_size, image_ops.CHANNELS)
        memory = decoding_processes.shared_processes().batch_memory(images)
        return python_op(
            lambda *records: self._decode(memory, *records), batch_shapes(batch_size, images)
        )

    def _decode(
        self, memory: BatchMemory, indices: np.ndarray, encoded: np.ndarray | None = None
    ) -> tuple[np.ndarray, ...]:
        numbers = indices.tolist()
        if encoded is None:
            sources = [None if number == _PADDING else self._source(number) for number in numbers]
        else:
            sources = encoded.tolist()
        try:
            images, (label_bytes, names) = decoding_processes.shared_processes().decode(
                memory, self._crop_fraction, sources
            )
        except UserError as error:
            self._reader.damaged.error = error
            raise
        labels = np.frombuffer(label_bytes, np.int8).astype(np.int32)
        identities = np.array(self._index_of(names), np.int32).reshape(-1, 2)
        valid = labels != UNDECODED
        for row in np.flatnonzero(~valid):
            pair = self._decode_here(numbers[row], sources[row], images[row])
            valid[row] = pair is not None
            labels[row] = pair.label if pair else record.IMPOSTOR
            identities[row] = self._index_of(pair.names) if pair else record.NO_IDENTITY
        if not valid.all():  # another pair's pixels, for BatchNorm's statistics
            images[~valid] = images[valid.argmax()] if valid.any() else 0
        return images, labels, identities, valid

    def _decode_here(
        self, index: int, source: RecordSource, images: np.ndarray
    ) -> record.Pair | None:
        """Decodes a pair that a process could not, into uint8 [2, image_size, image_size, 3].

        Returns None for padding and for a damaged record, which is counted.

        Raises:
          UserError: it is damaged, and no more records may be skipped.
        """
        if index == _PADDING:
            return None
        encoded = source if isinstance(source, bytes) else self._read(index)
        if encoded is None:
            return None
        try:
            pair = record.parse_pair(encoded)
            for name, image, result in zip(record.IMAGES, pair.images, images, strict=True):
                decode_image(name, image, self._crop_fraction, result)
        except record.DamagedRecordError as error:
            self._reader.count_damaged(index, str(error))
            return None
        return pair


def decode_image(field: str, encoded: bytes, crop_fraction: float, result: np.ndarray) -> None:
    """`image_ops.load_on_host` of the image in a record's field.

    Raises:
      DamagedRecordError: the image does not decode.
    """
    try:
        image_ops.load_on_host(encoded, crop_fraction, result)
    except tf.errors.InvalidArgumentError as error:
        raise record.DamagedRecordError(damage.describe_damaged_image(field)) from error


class TensorFlowDecoder:
    """Decodes with TensorFlow's kernels; InvalidArgumentError ends reading at a damaged record."""

    def __init__(
        self,
        image_size: int,
        crop_fraction: float,
        index_of: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
        by_path: bool = False,
    ):
        """Args:
        image_size: side of the results in pixels.
        crop_fraction: side of the centre square that is kept, over the shorter side.
        index_of: the map from identities' names to their indices.
        by_path: map the images' paths instead.
        """
        self._names = record.PATHS if by_path else record.IDENTITIES
        self._image_size, self._crop_fraction, self._index_of = image_size, crop_fraction, index_of

    def batches(self, records: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Full batches of (index, encoded)."""
        return self._decoded(records).batch(batch_size, drop_remainder=True)

    def padded_batches(self, records: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """As `batches`, then batches of padding without end."""
        side = self._image_size
        padding = {
            "images": tf.zeros((2, side, side, image_ops.CHANNELS), tf.uint8),
            "label": tf.constant(record.IMPOSTOR, tf.int32),
            "identities": self._index_of(tf.constant(("", ""))),
            "valid": tf.constant(False),
        }
        padded = self._decoded(records).concatenate(tf.data.Dataset.from_tensors(padding).repeat())
        return padded.batch(batch_size, drop_remainder=True)

    def _decoded(self, records: tf.data.Dataset) -> tf.data.Dataset:
        # One map: chained ones run at 0.8 × its rate.
        calls = _CALLS_PER_CORE * workers.available_cores()
        return records.map(self._decode, num_parallel_calls=calls, deterministic=True)

    @tf.autograph.experimental.do_not_convert
    def _decode(self, index: tf.Tensor, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        del index
        pair = parse_record(encoded)
        images = [
            image_ops.jpeg_to_input(pair[name], self._image_size, self._crop_fraction)
            for name in record.IMAGES
        ]
        names = tf.stack([pair[name] for name in self._names], axis=-1)
        return {
            "images": tf.stack(images),
            "label": tf.cast(pair[record.LABEL], tf.int32),
            "identities": self._index_of(names),
            "valid": tf.constant(True),
        }


def parse_record(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
    """The fields of one serialised record; InvalidArgumentError where one is missing."""
    return tf.io.parse_single_example(encoded, _FEATURES)


def identity_lookup(names: Sequence[str]) -> Callable[[tf.Tensor], tf.Tensor]:
    """`record.identity_indexer` for tensors: string → int32 of the same shape.

    It holds a lookup table, which cannot travel to a tf.data service.
    """
    keys = tf.constant(names or _NO_NAMES)
    values = tf.range(tf.size(keys), dtype=tf.int32)
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(keys, values), default_value=record.NO_IDENTITY
    )
    return table.lookup


def batch_shapes(batch_size: int, images: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of a batch's tensors, of which `images` is that of the images."""
    return {
        "images": images,
        "label": (batch_size,),
        "identities": (batch_size, 2),
        "valid": (batch_size,),
    }


def python_op(
    function: Callable[..., tuple[np.ndarray, ...]], shapes: dict[str, tuple[int, ...]]
) -> Callable[..., dict[str, tf.Tensor]]:
    """Makes a function from arrays to a batch's arrays one from tensors to a batch, for tf.data."""

    def guarded(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        with call_guard:
            return function(*arrays)

    @tf.autograph.experimental.do_not_convert
    def op(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        # Not stateful, or op determinism would run the calls one after the other.
        values = tf.numpy_function(guarded, tensors, list(BATCH_TYPES.values()), stateful=False)
        named = zip(BATCH_TYPES, values, strict=True)
        return {name: tf.ensure_shape(value, shapes[name]) for name, value in named}

    return op


class CallGuard:
    """Keeps tf.data's threads out of Python while the interpreter ends.

    A thread of TensorFlow that asks for the interpreter's lock then never returns, and the iterator
    that waits for it hangs the process: half of all runs that ended with a full pipeline did.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._running, self._last_call, self._closed = 0, 0.0, False

    def __enter__(self) -> None:
        with self._lock:
            if self._closed:
                self._last_call = time.monotonic()
                raise RuntimeError("the process is ending")
            self._running += 1

    def __exit__(self, *exception) -> None:
        with self._lock:
            self._running -= 1
            self._last_call = time.monotonic()

    def close(self) -> None:
        """Refuses further calls, and waits until there are none."""
        self._closed = True
        deadline = time.monotonic() + _EXIT_SECONDS
        while time.monotonic() < deadline and (
            self._running or time.monotonic() - self._last_call < _QUIET_SECONDS
        ):
            time.sleep(_QUIET_SECONDS / 10)


call_guard = CallGuard()
atexit.register(call_guard.close)
