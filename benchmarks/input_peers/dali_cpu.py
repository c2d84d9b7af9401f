"""NVIDIA DALI's CPU pipeline over fv's shards, with its fast DCT."""

import os
from collections.abc import Iterator

import numpy as np
from nvidia import dali
from nvidia.dali import fn, tfrecord, types

from benchmarks.side_by_side.workload import Workload
from fv import record


def batches(work: Workload) -> Iterator[np.ndarray]:
    """One DALI thread per core."""
    pipeline = _pipeline(work, batch_size=work.batch_size, num_threads=work.cores, device_id=None, seed=0)
    pipeline.build()
    while True:
        (images,) = pipeline.run()
        yield np.asarray(images.as_tensor())  # a view


@dali.pipeline_def
def _pipeline(work: Workload):
    features = {name: tfrecord.FixedLenFeature((), tfrecord.string, "") for name in (record.IMAGE_A, record.IMAGE_B)}
    indices = [_write_index(path, work.folder) for path in work.shard_paths()]
    shuffling = dict(random_shuffle=True, initial_fill=work.shuffle_buffer)
    pair = fn.readers.tfrecord(path=work.shard_paths(), index_path=indices, features=features, **shuffling)
    return fn.stack(*(_load(pair[name], work.side) for name in features))


def _load(encoded, side: int):
    image = fn.decoders.image(encoded, device="cpu", use_fast_idct=True)
    return fn.resize(image, size=(side, side), interp_type=types.INTERP_LINEAR, antialias=False)


def _write_index(path: str, folder: str) -> str:
    """DALI's index: a line of offset and size for each framed record."""
    target = os.path.join(folder, f"{os.path.basename(path)}.idx")
    with open(path, "rb") as shard:
        starts = [offset for offset, _ in record.read_frames(shard)]
    ends = [*starts[1:], os.path.getsize(path)]
    with open(target, "w", encoding="utf-8") as index:
        index.writelines(f"{start} {end - start}\n" for start, end in zip(starts, ends, strict=True))
    return target
