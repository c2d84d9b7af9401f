"""Grain over ArrayRecord files, whose threads decode with simplejpeg and OpenCV."""

import os
import pickle
from collections.abc import Iterator

import grain
import numpy as np
from array_record.python import array_record_module

from benchmarks.input_peers import indexed, pixels
from benchmarks.side_by_side.workload import Workload

_PREFETCHED_BATCHES = 4
_RANDOM_ACCESS = "group_size:1"  # one record per compressed chunk, as Grain's documentation advises


def batches(work: Workload) -> Iterator[np.ndarray]:
    """One thread per core decodes pairs, the caller's stacks them."""

    def load(pair: bytes) -> np.ndarray:
        return pixels.load_batch(pickle.loads(pair), work.side)

    pairs = grain.MapDataset.source(grain.sources.ArrayRecordDataSource(_write_records(work)))
    reading = grain.ReadOptions(num_threads=work.cores, prefetch_buffer_size=_PREFETCHED_BATCHES * work.batch_size)
    endless = pairs.seed(0).shuffle().repeat(None).map(load).to_iter_dataset(reading)
    return iter(endless.batch(work.batch_size))


def _write_records(work: Workload) -> str:
    path = os.path.join(work.folder, "pairs.array_record")
    if not os.path.exists(path):
        shards = indexed.IndexedShards(work)
        writer = array_record_module.ArrayRecordWriter(path, _RANDOM_ACCESS)
        for pair in range(len(shards)):
            writer.write(pickle.dumps([bytes(image) for image in shards.encoded(pair)]))
        writer.close()
    return path
