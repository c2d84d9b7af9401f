"""What people do today, on the same pairs of the same images: none of them looks whether an image is sound.

Every way is timed until its bytes are on the disk, fv from the start of its process.
"""

import dataclasses
import importlib.util
import itertools
import os
import random
import resource
import subprocess
import sys
import time

from benchmarks.conversion import command
from benchmarks.conversion.options import BenchmarkOptions
from benchmarks.conversion.rates import run_anew
from fv import manifest, record
from fv.conversion import catalog

MEMORY_LIMIT_BYTES = 8 << 30  # for lists of all combinations; more than most laptops have free
FIRST_LISTED = 1_000  # images; doubled until the memory ends


def measure(options: BenchmarkOptions, folder: str) -> dict:
    """Pairs/s of each way of writing, and how many images the seed's lists of all combinations can hold."""
    made = os.path.join(folder, "peers")
    one = dataclasses.replace(options, workers=1)
    figures = {
        "fv, one process": round(
            options.pairs / min(run_anew(one, made)[0] for _ in range(options.repeats))
        )
    }
    figures["fv, all cores"] = round(
        options.pairs / min(run_anew(options, made)[0] for _ in range(options.repeats))
    )
    pairs = list(_pairs_of(made, options.images))
    figures["tf.train.Example loop"] = _rate(
        options, lambda: _write_examples(pairs, os.path.join(folder, "loop.tfrecord"))
    )
    if importlib.util.find_spec("webdataset"):
        figures["webdataset TarWriter"] = _rate(
            options, lambda: _write_tar(pairs, os.path.join(folder, "pairs.tar"))
        )
    else:
        figures["webdataset TarWriter"] = (
            "not installed: pip install -r benchmarks/requirements-peers.txt"
        )
    return {"pairs_per_s": figures, "all_combinations_in_lists": _list_until_memory_ends(options)}


def list_combinations(paths: list[str], pairs: int, seed: int) -> int:
    """The seed's way: every pair there is in a list of its label, of which some are then drawn."""
    genuine, impostor = [], []
    for a, b in itertools.combinations(paths, 2):
        (genuine if a.partition("/")[0] == b.partition("/")[0] else impostor).append((a, b))
    rng = random.Random(seed)
    return len(
        rng.sample(genuine, min(pairs // 2, len(genuine)))
        + rng.sample(impostor, min(pairs // 2, len(impostor)))
    )


def _list_until_memory_ends(options: BenchmarkOptions) -> dict:
    """Doubles the number of images, each time in a process of its own with limited memory."""
    count, found = FIRST_LISTED, {"memory_limit_gb": MEMORY_LIMIT_BYTES / 2**30}
    while True:
        start = time.perf_counter()
        arguments = [options.images, str(count), str(options.pairs), str(options.seed)]
        environment = {**os.environ, "PYTHONPATH": str(command.ROOT)}
        listing = [sys.executable, "-m", __name__, *arguments]
        if subprocess.run(listing, env=environment, capture_output=True, check=False).returncode:
            return {**found, "runs_out_at_images": count}
        found |= {"largest_images": count, "largest_s": round(time.perf_counter() - start, 1)}
        count *= 2


def _rate(options: BenchmarkOptions, work) -> int:
    """Pairs/s, the best of the repeats."""
    best = float("inf")
    for _ in range(options.repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return round(options.pairs / best)


def _pairs_of(folder: str, root: str):
    """(path a, path b, label) of every pair in the shards."""
    for split in manifest.load(folder).splits.values():
        for shard in split.shards:
            with open(os.path.join(folder, shard.name), "rb") as file:
                for _, data in record.read_frames(file):
                    pair = record.decode_pair(data)
                    a, b = (
                        os.path.join(root, pair[name].decode())
                        for name in (record.PATH_A, record.PATH_B)
                    )
                    yield a, b, pair[record.LABEL]


def _write_examples(pairs, path: str) -> None:
    import tensorflow as tf

    import fv.quiet_tensorflow  # noqa: F401

    def feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    with tf.io.TFRecordWriter(path) as writer:
        for a, b, label in pairs:
            features = {
                record.IMAGE_A: feature(_read(a)),
                record.IMAGE_B: feature(_read(b)),
                record.IDENTITY_A: feature(os.path.dirname(a).encode()),
                record.IDENTITY_B: feature(os.path.dirname(b).encode()),
                record.PATH_A: feature(a.encode()),
                record.PATH_B: feature(b.encode()),
                record.LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            writer.write(
                tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
            )
    _sync(path)


def _write_tar(pairs, path: str) -> None:
    import webdataset

    with webdataset.TarWriter(path) as writer:
        for index, (a, b, label) in enumerate(pairs):
            writer.write(
                {"__key__": f"{index:09d}", "a.jpg": _read(a), "b.jpg": _read(b), "cls": label}
            )
    _sync(path)


def _sync(path: str) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _listed(images: str, count: str, pairs: str, seed: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    paths = catalog.scan(images)[0]["path"].tolist()
    paths = list(
        itertools.islice(itertools.cycle(paths), int(count))
    )  # more images than there are: the same again
    list_combinations(
        [f"{path}#{index}" for index, path in enumerate(paths)], int(pairs), int(seed)
    )


if __name__ == "__main__":
    _listed(*sys.argv[1:])
