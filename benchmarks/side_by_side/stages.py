"""Measures the CPU time of one image stage by stage, on one core.

python -m benchmarks.side_by_side.stages WORKLOAD

Two columns: TensorFlow's kernels in sequential tf.data maps, and the functions of fv's decoding
processes (simplejpeg and OpenCV). Each stage is measured alone, with its input in memory.
"""

import functools
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg
import tensorflow as tf

from benchmarks.side_by_side import peers, workload
from benchmarks.side_by_side.workload import Workload
from fv import files, jpeg_loader, manifest, record
from fv.pipeline.shards import FrameReader, ShardIndex

STAGES = ("read", "parse", "decode", "resize", "batch")
REPEATS = 5  # the least counts
MICROSECONDS = 1e6


def measure(work: Workload) -> dict[str, dict[str, float]]:
    """CPU time in µs per image of each stage, by the column's name."""
    images = 2 * manifest.load(work.shards).split("train").pairs
    columns = {"TensorFlow": tensorflow_seconds(work), "simplejpeg + OpenCV": library_seconds(work)}
    return {
        column: {
            stage: round(MICROSECONDS * spent / images, 2)
            for stage, spent in zip(STAGES, seconds, strict=True)
        }
        for column, seconds in columns.items()
    }


def tensorflow_seconds(work: Workload) -> list[float]:
    """CPU seconds for an epoch of each stage."""
    stages = [
        lambda data: tf.io.parse_single_example(data, peers.tf_features()),
        lambda pair: tuple(peers.tf_decode(pair[name]) for name in peers.IMAGES),
        lambda *images: tuple(
            tf.cast(peers.tf_resize(image, work.side), tf.uint8) for image in images
        ),
    ]
    records = tf.data.TFRecordDataset(work.shard_paths())
    spent, held = (
        [_seconds_beyond(tf.data.Dataset.range(_count(records)), records)],
        records.cache(),
    )
    for stage in stages:
        spent.append(_seconds_beyond(held, held.map(stage)))
        held = held.map(stage).cache()
    return [*spent, _seconds(functools.partial(_count, held.batch(work.batch_size)))]


def library_seconds(work: Workload) -> list[float]:
    """CPU seconds of each stage for an epoch; images are resized into the batch."""
    spans = _spans(work)
    data = _read(spans)
    encoded = [image for pair in map(record.parse_pair, data) for image in pair.images]
    decoded, resized = (_Loader(encoded, side) for side in (None, work.side))
    read, parse, decode, whole = (
        _seconds(part)
        for part in (
            lambda: _read(spans),
            lambda: _each(record.parse_pair, data),
            decoded.load,
            resized.load,
        )
    )
    return [read, parse, decode, max(0.0, whole - decode), 0.0]


class _Loader:
    """Loads images as the decoding processes do, resized to `side` if it is given."""

    def __init__(self, encoded: list[bytes], side: int | None):
        sides = [side or min(simplejpeg.decode_jpeg_header(image)[:2]) for image in encoded]
        places = {
            each: np.empty((each, each, jpeg_loader.CHANNELS), np.uint8) for each in set(sides)
        }
        self._given = [
            (image, 1.0, places[each]) for image, each in zip(encoded, sides, strict=True)
        ]

    def load(self) -> None:
        for given in self._given:
            jpeg_loader.load_into(*given)


def _seconds(part: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS + 1):  # the first builds graphs and fills caches
        start = time.process_time()
        part()
        times.append(time.process_time() - start)
    return min(times[1:])


def _seconds_beyond(given: tf.data.Dataset, dataset: tf.data.Dataset) -> float:
    """CPU seconds of a stage without those of its input; counting costs both the same."""
    without, whole = (_seconds(functools.partial(_count, each)) for each in (given, dataset))
    return whole - without


def _count(dataset: tf.data.Dataset) -> int:
    return int(dataset.reduce(np.int64(0), lambda count, *_: count + 1))


def _spans(work: Workload) -> list[tuple[str, int, int]]:
    """Where each record lies: an index finds that once."""
    shards = manifest.load(work.shards).split("train").shards
    indexes = [
        (path, ShardIndex(path), shard.records)
        for path, shard in zip(work.shard_paths(), shards, strict=True)
    ]
    return [
        (path, *index.span(number)[:2])
        for path, index, records in indexes
        for number in range(records)
    ]


def _read(spans: list[tuple[str, int, int]]) -> list[bytes]:
    frames = FrameReader()
    return [frames.read(*span) for span in spans]


def _each(function: Callable, items: list) -> None:
    for item in items:
        function(item)


if __name__ == "__main__":
    cv2.setNumThreads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    print(files.to_json(measure(workload.load(sys.argv[1]))))
