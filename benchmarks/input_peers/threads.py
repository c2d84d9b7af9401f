"""Python threads with simplejpeg and OpenCV over memory-mapped shards: no framework at all."""

import queue
import threading
from collections.abc import Iterator

import numpy as np

from benchmarks.input_peers import indexed, pixels
from benchmarks.side_by_side.workload import Workload

_BATCHES_AHEAD = 2  # a thread


def batches(work: Workload) -> Iterator[np.ndarray]:
    """One thread per core, each of which makes a whole batch at a time."""
    shards = indexed.IndexedShards(work)
    order, lock = indexed.shuffled_batches(len(shards), work.batch_size), threading.Lock()
    ready = queue.Queue(_BATCHES_AHEAD * work.cores)

    def fill() -> None:
        while True:
            with lock:
                pairs = next(order)
            images = pixels.load_batch(shards.encoded_batch(pairs), work.side)
            ready.put(images.reshape(-1, 2, *images.shape[1:]))

    for _ in range(work.cores):
        threading.Thread(target=fill, daemon=True).start()
    while True:
        yield ready.get()
