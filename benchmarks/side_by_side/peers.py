"""Contestants of the input benchmark.

python -m benchmarks.side_by_side.peers NAME WORKLOAD SECONDS WARM_UP_S

Each is a function that imports its packages and returns `batches(work)`, which yields shuffled
images uint8 [batch, 2, side, side, 3] without end. A ceiling yields counts of images. The process
prints one line of JSON: rates, or the missing package.
"""

import itertools
import mmap
import multiprocessing
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import simplejpeg

from benchmarks.side_by_side import machine, workload
from benchmarks.side_by_side.workload import Workload
from fv import files, manifest, metering, record

OURS = ("benchmarks", "fv")
FV, TORCH = "fv_pipeline", "torch_batches"
PEERS = {
    "threads": "Python threads, simplejpeg + OpenCV, no framework",
    TORCH: "torch DataLoader, simplejpeg + OpenCV, a batch per item",
    "fused_map": "tf.data, one fused map",
}
CEILINGS = {"ceiling": "hard ceiling: decode and resize", "decode_only": "decode alone"}
TITLES = {FV: "fv", **PEERS, **CEILINGS}
CEILING_LOOK_S = 0.05
IMAGES_PER_COUNT = 16  # of a ceiling's process
BATCHES_AHEAD = 2  # of a thread
FRAME_HEAD_BYTES = 12  # of a record, before its data

cv2.setNumThreads(1)  # the peers have threads and processes of their own


def fv_pipeline() -> Callable:
    """fv's training pipeline, as fv.train calls it."""
    from fv.pipeline import input_pipeline
    from fv.pipeline.options import InputOptions
    from fv.pipeline.shards import PairSource

    def batches(work: Workload) -> Iterator:
        held = manifest.load(work.shards)
        source = PairSource.of(work.shards, held, "train", work.side, crop_fraction=1.0)
        options = InputOptions(decoder=work.decoder, cache=work.cache)
        dataset = input_pipeline.training_batches(
            source,
            batch_size=work.batch_size,
            seed=0,
            shuffle_buffer=work.shuffle_buffer,
            options=options,
        )
        return (batch["images"] for batch in dataset)

    return batches


def threads() -> Callable:
    """One thread per core, each of which makes a whole batch at a time from mapped shards."""

    def batches(work: Workload) -> Iterator[np.ndarray]:
        shards = IndexedShards(work)
        order, lock = shuffled_batches(len(shards), work.batch_size), threading.Lock()
        ready: queue.Queue = queue.Queue(BATCHES_AHEAD * work.cores)

        def fill() -> None:
            while True:
                with lock:
                    pairs = next(order)
                ready.put(shards.load(pairs))

        for _ in range(work.cores):
            threading.Thread(target=fill, daemon=True).start()
        while True:
            yield ready.get()

    return batches


def torch_batches() -> Callable:
    """One worker process per core; an item is a whole batch, which comes by shared memory."""
    import torch

    class Batches(torch.utils.data.Dataset):
        def __init__(self, work: Workload):
            self._shards = IndexedShards(work)

        def __len__(self) -> int:
            return len(self._shards)

        def __getitem__(self, pairs: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(self._shards.load(pairs))

    def batches(work: Workload) -> Iterator:
        dataset = Batches(work)
        order = shuffled_batches(len(dataset), work.batch_size)
        given = dict(batch_size=None, sampler=order, num_workers=work.cores)
        return iter(torch.utils.data.DataLoader(dataset, **given))

    return batches


def fused_map() -> Callable:
    """tf.data with one map that parses, decodes and resizes."""
    import tensorflow as tf

    def batches(work: Workload) -> Iterator:
        def load(data):
            pair = tf.io.parse_single_example(data, tf_features())
            images = [tf_resize(tf_decode(pair[name]), work.side) for name in IMAGES]
            return tf.cast(tf.round(tf.stack(images)), tf.uint8), pair[record.LABEL]

        records = tf.data.TFRecordDataset(work.shard_paths())
        records = records.shuffle(work.shuffle_buffer, seed=0).repeat()
        pairs = records.map(load, num_parallel_calls=tf.data.AUTOTUNE)
        return (images for images, _ in pairs.batch(work.batch_size).prefetch(tf.data.AUTOTUNE))

    return batches


def decode_only() -> Callable:
    """One process per core that decodes JPEGs in memory and does nothing else."""
    return lambda work: _count(work, simplejpeg.decode_jpeg)


def ceiling() -> Callable:
    """One process per core that decodes and resizes JPEGs in memory and does nothing else."""
    return lambda work: _count(work, lambda encoded: load_image(encoded, work.side))


IMAGES = (record.IMAGE_A, record.IMAGE_B)


def tf_features() -> dict:
    """Returns the fields of a record that TensorFlow's kernels parse."""
    import tensorflow as tf

    images = {name: tf.io.FixedLenFeature([], tf.string) for name in IMAGES}
    return images | {record.LABEL: tf.io.FixedLenFeature([], tf.int64)}


def tf_decode(encoded):
    """Decodes a JPEG to uint8 [height, width, 3], bit-exact with libjpeg's accurate DCT."""
    import tensorflow as tf

    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def tf_resize(image, side: int):
    """Resizes an image bilinearly to float32 [side, side, 3]."""
    import tensorflow as tf

    return tf.ensure_shape(tf.image.resize(image, (side, side)), (side, side, 3))


def load_image(encoded: bytes | memoryview, side: int) -> np.ndarray:
    """Decodes a JPEG and resizes it bilinearly to uint8 [side, side, 3], RGB."""
    image = simplejpeg.decode_jpeg(encoded)
    return image if image.shape[:2] == (side, side) else cv2.resize(image, (side, side))


class IndexedShards:
    """Random access to pairs: where each JPEG lies is looked up once, then its bytes are mapped."""

    def __init__(self, work: Workload):
        """Reads every record once."""
        self._side = work.side
        self._pairs = [pair for path in work.shard_paths() for pair in _index(path)]

    def __len__(self) -> int:
        return len(self._pairs)

    def encoded(self, pair: int) -> Sequence[memoryview]:
        """Returns the two JPEGs of a pair."""
        return self._pairs[pair]

    def load(self, pairs: np.ndarray) -> np.ndarray:
        """Decodes pairs, given by index, to uint8 [pairs, 2, side, side, 3] without a copy."""
        encoded = [image for pair in pairs for image in self._pairs[pair]]
        images = np.empty((len(encoded), self._side, self._side, 3), np.uint8)
        for image, data in zip(images, encoded, strict=True):
            pixels = simplejpeg.decode_jpeg(data)
            if pixels.shape == image.shape:
                image[:] = pixels
            else:
                cv2.resize(pixels, (self._side, self._side), dst=image)
        return images.reshape(-1, 2, *images.shape[1:])


def shuffled_batches(records: int, batch_size: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yields record indices int64 [batch_size] without end, across the ends of epochs."""
    order, left = np.random.default_rng(seed), np.zeros(0, np.int64)
    while True:
        while len(left) < batch_size:
            left = np.concatenate([left, order.permutation(records)])
        yield left[:batch_size]
        left = left[batch_size:]


def _index(path: str) -> Iterator[Sequence[memoryview]]:
    with open(path, "rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        for offset, data in record.read_frames(file):
            fields = record.decode_pair(data)
            images = [bytes(fields[name]) for name in IMAGES]
            starts = [offset + FRAME_HEAD_BYTES + data.index(image) for image in images]
            yield [mapped[at : at + len(x)] for at, x in zip(starts, images, strict=True)]


def _count(work: Workload, load: Callable[[bytes], object]) -> Iterator[int]:
    """Yields the number of images that the processes loaded since the last look."""
    encoded = [path.read_bytes() for path in work.image_paths()]
    context = multiprocessing.get_context("fork")  # the images and `load` are inherited
    counters = [context.Value("q", 0) for _ in range(work.cores)]
    parts = [encoded[first :: work.cores] or encoded for first in range(work.cores)]
    processes = [
        context.Process(target=_load_for_ever, args=(part, load, counter), daemon=True)
        for part, counter in zip(parts, counters, strict=True)
    ]
    for process in processes:
        process.start()
    seen = 0
    try:
        while True:
            time.sleep(CEILING_LOOK_S)
            loaded = sum(counter.value for counter in counters)
            yield loaded - seen
            seen = loaded
    finally:
        for process in processes:
            process.kill()
            process.join()


def _load_for_ever(images: list[bytes], load: Callable[[bytes], object], counter) -> None:
    parent = os.getppid()
    for number, encoded in enumerate(itertools.cycle(images), start=1):
        load(encoded)
        if number % IMAGES_PER_COUNT == 0:
            counter.value = number
            if os.getppid() != parent:
                return  # a benchmark that was killed ends nobody


def compete(name: str, work: Workload, seconds: float, warm_up_s: float) -> dict:
    """Measures one contestant.

    Returns:
      images_per_s, images_per_cpu_s, dtype, import_s, first_batch_s (from the call to the first
      batch) and memory_mb (at the end, with all child processes); or {"missing": PACKAGE}.
    """
    start = time.perf_counter()
    try:
        batches = globals()[name]()
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in OURS:
            raise
        return {"missing": package}
    imported = time.perf_counter()
    drawn = batches(work)
    first = next(drawn)
    opening = {"import_s": imported - start, "first_batch_s": time.perf_counter() - imported}
    rate = metering.measure(
        drawn,
        _count_images,
        seconds=seconds,
        warm_up_s=warm_up_s,
        warm_up_images=work.warm_up_images,
    )
    rates = {"images_per_s": rate.images_per_s, "images_per_cpu_s": rate.images_per_cpu_s}
    dtype = "" if isinstance(first, int) else "uint8" if "uint8" in str(first.dtype) else "float32"
    return {**rates, "memory_mb": machine.memory_bytes() / 1e6, **opening, "dtype": dtype}


def _count_images(batch) -> int:
    return batch if isinstance(batch, int) else batch.shape[0] * batch.shape[1]


if __name__ == "__main__":
    name, path, *spans = sys.argv[1:]
    print(files.to_json(compete(name, workload.load(path), *map(float, spans))), flush=True)
    os._exit(0)  # threads that still decode abort an orderly exit
