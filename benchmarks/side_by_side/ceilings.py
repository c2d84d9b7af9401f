"""The hard ceiling: one process per core that only decodes, or decodes and resizes, JPEGs that it holds in memory."""

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator

import simplejpeg

from benchmarks.input_peers import pixels
from benchmarks.side_by_side.workload import Workload

_LOOK_S = 0.05  # between two looks at the counters
_IMAGES_PER_COUNT = 16


def decode_only(work: Workload) -> Iterator[int]:
    """Images decoded since the last look."""
    return _count(work, simplejpeg.decode_jpeg)


def decode_and_resize(work: Workload) -> Iterator[int]:
    """Images decoded and resized since the last look."""
    return _count(work, lambda encoded: pixels.load(encoded, work.side))


def _count(work: Workload, load: Callable[[bytes], object]) -> Iterator[int]:
    encoded = [path.read_bytes() for path in work.image_paths()]
    context = multiprocessing.get_context("fork")  # the images and `load` are there at once
    counters = [context.Value("q", 0) for _ in range(work.cores)]
    parts = [encoded[first :: work.cores] or encoded for first in range(work.cores)]
    arguments = [(part, load, counter) for part, counter in zip(parts, counters, strict=True)]
    processes = [
        context.Process(target=_load_for_ever, args=each, daemon=True) for each in arguments
    ]
    for process in processes:
        process.start()
    try:
        yield from _differences(counters)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _differences(counters: list) -> Iterator[int]:
    seen = 0
    while True:
        time.sleep(_LOOK_S)
        loaded = sum(counter.value for counter in counters)
        yield loaded - seen
        seen = loaded


def _load_for_ever(images: list[bytes], load: Callable[[bytes], object], counter) -> None:
    parent = os.getppid()
    for number, encoded in enumerate(itertools.cycle(images), start=1):
        load(encoded)
        if number % _IMAGES_PER_COUNT == 0:
            counter.value = number
            if os.getppid() != parent:
                return  # run by hand, nobody else ends it
