"""Where one image's CPU time goes, stage by stage on one core: python -m benchmarks.side_by_side.stages WORKLOAD

Two columns: TensorFlow's kernels in sequential tf.data maps, and `fv.record` in Python with simplejpeg and OpenCV. Each
stage is measured alone, what it is given being in memory.
"""

import functools
import json
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg
import tensorflow as tf

from benchmarks.input_peers import records_tf
from benchmarks.side_by_side import workload
from benchmarks.side_by_side.workload import Workload
from fv import manifest, record

STAGES = ("read", "parse", "decode", "resize", "batch")
REPEATS = 5  # the least counts
MICROSECONDS = 1e6


def measure(work: Workload) -> dict[str, dict[str, float]]:
    """CPU time in µs per image of each stage, by the column's name."""
    images = 2 * manifest.load(work.shards).split("train").pairs
    columns = {"TensorFlow": tensorflow_seconds(work), "simplejpeg + OpenCV": library_seconds(work)}
    return {
        column: {stage: round(MICROSECONDS * spent / images, 2) for stage, spent in zip(STAGES, seconds, strict=True)}
        for column, seconds in columns.items()
    }


def tensorflow_seconds(work: Workload) -> list[float]:
    """CPU seconds for an epoch of each stage."""
    stages = [
        lambda data: tf.io.parse_single_example(data, records_tf.FEATURES),
        lambda pair: tuple(records_tf.decode(pair[name]) for name in records_tf.IMAGES),
        lambda *images: tuple(tf.cast(records_tf.resize(image, work.side), tf.uint8) for image in images),
    ]
    records = tf.data.TFRecordDataset(work.shard_paths())
    spent, held = [_seconds_beyond(tf.data.Dataset.range(_count(records)), records)], records.cache()
    for stage in stages:
        spent.append(_seconds_beyond(held, held.map(stage)))
        held = held.map(stage).cache()
    return [*spent, _seconds(functools.partial(_count, held.batch(work.batch_size)))]


def library_seconds(work: Workload) -> list[float]:
    """CPU seconds for an epoch of each stage; reading and parsing in Python, by `fv.record`."""
    data = _read(work)
    encoded = [pair[name] for pair in map(record.decode_pair, data) for name in records_tf.IMAGES]
    pixels = [simplejpeg.decode_jpeg(image) for image in encoded]
    small = [_resize(image, work.side) for image in pixels]
    batch = np.empty((2 * work.batch_size, *small[0].shape), np.uint8)
    parts = [
        lambda: _read(work),
        lambda: _each(record.decode_pair, data),
        lambda: _each(simplejpeg.decode_jpeg, encoded),
        lambda: _each(lambda image: _resize(image, work.side), pixels),
        lambda: _fill(batch, small),
    ]
    return [_seconds(part) for part in parts]


def _seconds(part: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS + 1):  # the first builds graphs and fills caches
        start = time.process_time()
        part()
        times.append(time.process_time() - start)
    return min(times[1:])


def _seconds_beyond(given: tf.data.Dataset, dataset: tf.data.Dataset) -> float:
    """What a stage costs beside what it is given, which is in memory; counting costs both the same."""
    without, whole = (_seconds(functools.partial(_count, each)) for each in (given, dataset))
    return whole - without


def _count(dataset: tf.data.Dataset) -> int:
    return int(dataset.reduce(np.int64(0), lambda count, *_: count + 1))


def _read(work: Workload) -> list[bytes]:
    records = []
    for path in work.shard_paths():
        with open(path, "rb") as file:
            records.extend(data for _, data in record.read_frames(file))
    return records


def _each(function: Callable, items: list) -> None:
    for item in items:
        function(item)


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    return image if image.shape[:2] == (side, side) else cv2.resize(image, (side, side))


def _fill(batch: np.ndarray, images: list[np.ndarray]) -> None:
    for number, image in enumerate(images):
        batch[number % len(batch)] = image


if __name__ == "__main__":
    cv2.setNumThreads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    print(json.dumps(measure(workload.load(sys.argv[1]))))
