"""Records → batches by simplejpeg and OpenCV in processes of their own: the fastest way on a CPU (docs/pipeline.md)."""

import atexit
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from fv import manifest as manifests
from fv import preprocess, preprocessing, record
from fv.errors import UserError
from fv.pipeline import decoding_processes
from fv.pipeline.damage import BadRecords
from fv.pipeline.decoding_processes import UNDECODED, BatchMemory, Source
from fv.pipeline.slices import Slice

# A clean end of the process while tf.data still calls Python: its threads must be out of the
# interpreter before that ends.
#
# A thread of TensorFlow that asks for the interpreter's lock while the interpreter is being taken
# down never returns, and the
# iterator that waits for it hangs the process: without this, every other run that ended with a
# full pipeline did.

_QUIET_SECONDS = (
    0.1  # without a call, after which the pipeline's buffers are full and it makes no more
)
_MOST_SECONDS = 5.0


class Calls:
    """The calls that tf.data makes of Python: `with calls:` around the work of each."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running, self._last, self._leaving = 0, 0.0, False

    def __enter__(self) -> None:
        with self._lock:
            if self._leaving:
                self._last = time.monotonic()
                raise RuntimeError("the process is ending")
            self._running += 1

    def __exit__(self, *exception) -> None:
        with self._lock:
            self._running -= 1
            self._last = time.monotonic()

    def leave(self) -> None:
        """Refuses further calls and waits until there are none."""
        self._leaving = True
        deadline = time.monotonic() + _MOST_SECONDS
        while time.monotonic() < deadline and (
            self._running or time.monotonic() - self._last < _QUIET_SECONDS
        ):
            time.sleep(_QUIET_SECONDS / 10)


calls = Calls()
atexit.register(calls.leave)


# The side of the images that leave the host; the device brings them to the network's.

_LARGEST_RATIO = (
    1.5  # to image_size: from there on the bytes to the device cost more than the host's resize
)


def choose_load_size(
    asked: int | None, manifest: manifests.Manifest, image_size: int, crop_fraction: float
) -> int:
    """The side, in pixels, that training images are loaded at.

    Args:
      asked: what the user wants, None for the default: the centre square as it is stored, where all stored images are
        squares of one size and it is at most 1.5 × `image_size`; else `image_size`.
      manifest: of the shards.
      image_size: side of the network's input.
      crop_fraction: side of the centre square that is kept, over the stored side.
    """
    if asked or manifest.image_side is None:
        return asked or image_size
    _, _, window = preprocessing.centre_window(
        manifest.image_side, manifest.image_side, crop_fraction
    )
    return window if window <= _LARGEST_RATIO * image_size else image_size


NO_RECORD = -1  # index of padding
Read = Callable[
    [int], bytes | None
]  # from an index to the record, None where it is damaged and was reported
Place = Callable[[int], Source]  # from an index to what a process needs for reading the record
_Row = tuple[int, list[int], bool]  # label, identities, valid

_HOLE: _Row = (record.IMPOSTOR, [record.NO_IDENTITY] * 2, False)
_INDICES_AHEAD = 2  # batches of them: an epoch's start waits for nobody


class HostDecoder:
    """Decodes whole batches, each by one of as many processes as there are cores; order is that of the records."""

    def __init__(
        self,
        image_size: int,
        crop_fraction: float,
        index_of: Callable[[Sequence[bytes]], list[int]],
        parts: Sequence[Slice],
        bad: BadRecords,
        read: Read | None = None,
        place: Place | None = None,
    ):
        """Args:
        image_size: side of the results in pixels.
        crop_fraction: side of the centre square that is kept, over the shorter side.
        index_of: the map from a pair's identities to their indices.
        parts: the slices that the records' indices count.
        bad: is told of records that do not decode, and says when they are too many.
        read: gives a record by its index, where batches are made of those.
        place: gives a process the same; `read` by default.
        """
        self._image_size, self._crop_fraction, self._index_of = image_size, crop_fraction, index_of
        self._parts, self._bad, self._read, self._place = parts, bad, read, place or read

    def batches(self, records: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Full batches of indices, int64, or of (index, encoded)."""
        calls = decoding_processes.shared_processes().calls
        waiting = tf.data.Options()
        waiting.threading.private_threadpool_size = (
            calls + 1
        )  # calls block: TensorFlow's own threads stay free for the step
        batches = records.batch(batch_size, drop_remainder=True).prefetch(_INDICES_AHEAD)
        decode = self._decoding(batch_size)
        return batches.map(decode, num_parallel_calls=calls, deterministic=True).with_options(
            waiting
        )

    def padded_batches(self, records: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """As `batches`, then batches of padding for ever."""
        holes = (tf.constant(NO_RECORD, tf.int64), tf.constant(b""))
        hole = holes if isinstance(records.element_spec, tuple) else holes[0]
        return self.batches(
            records.concatenate(tf.data.Dataset.from_tensors(hole).repeat()), batch_size
        )

    def _decoding(self, batch_size: int) -> Callable[..., dict[str, tf.Tensor]]:
        shapes = {
            "images": (batch_size, 2, self._image_size, self._image_size, preprocess.CHANNELS),
            "label": (batch_size,),
            "identities": (batch_size, 2),
            "valid": (batch_size,),
        }
        types = (tf.uint8, tf.int32, tf.int32, tf.bool)
        memory = decoding_processes.shared_processes().memory(shapes["images"])

        def load(*indices_and_encoded: np.ndarray) -> tuple[np.ndarray, ...]:
            with calls:
                return self._load(memory, *indices_and_encoded)

        @tf.autograph.experimental.do_not_convert
        def decode(*indices_and_encoded: tf.Tensor) -> dict[str, tf.Tensor]:
            # A pure function, so that op determinism lets its calls run in parallel; one for a batch.
            values = tf.numpy_function(load, indices_and_encoded, types, stateful=False)
            return {
                name: tf.ensure_shape(value, shapes[name])
                for name, value in zip(shapes, values, strict=True)
            }

        return decode

    def _load(
        self, memory: BatchMemory, indices: np.ndarray, encoded: np.ndarray | None = None
    ) -> tuple[np.ndarray, ...]:
        numbers = indices.tolist()
        if encoded is None:
            sources = [None if number == NO_RECORD else self._place(number) for number in numbers]
        else:
            sources = encoded.tolist()
        try:
            images, (labels, names) = decoding_processes.shared_processes().decode(
                memory, self._crop_fraction, sources
            )
        except UserError as error:
            self._bad.error = error
            raise
        labels = np.frombuffer(labels, np.int8).astype(np.int32)
        identities = np.array(self._index_of(names), np.int32).reshape(-1, 2)
        valid = labels != UNDECODED
        for row in np.flatnonzero(~valid):
            labels[row], identities[row], valid[row] = self._load_pair(
                numbers[row], sources[row], images[row]
            )
        if not valid.all():
            images[~valid] = (
                images[valid.argmax()] if valid.any() else 0
            )  # sane pixels, for BatchNorm's statistics
        return images, labels, identities, valid

    def _load_pair(self, index: int, source: Source, images: np.ndarray) -> _Row:
        """Decodes here what a process did not, into uint8 [2, image_size, image_size, 3], or says what is wrong with it."""
        if index == NO_RECORD:
            return _HOLE
        encoded = source if isinstance(source, bytes) else self._read(index)
        if encoded is None:
            return _HOLE
        try:
            pair = record.parse_pair(encoded)
            decode_image(record.IMAGES[0], pair.images[0], self._crop_fraction, images[0])
            decode_image(record.IMAGES[1], pair.images[1], self._crop_fraction, images[1])
        except record.DamagedRecordError as error:
            self._bad.add_record(self._parts, index, str(error))
            return _HOLE
        return pair.label, self._index_of(pair.identities), True


def decode_image(name: str, encoded: bytes, crop_fraction: float, result: np.ndarray) -> None:
    """`preprocess.load_on_host` of the field of that name.

    Raises:
      DamagedRecordError: no whole JPEG.
    """
    try:
        preprocess.load_on_host(encoded, crop_fraction, result)
    except tf.errors.InvalidArgumentError as error:
        raise record.DamagedRecordError(describe_undecodable(name)) from error


def describe_undecodable(name: str) -> str:
    """What is said of an image that does not decode."""
    return f"{name} is no whole JPEG"
