"""Measures the converter: rates beside ceilings, peers, memory, scale, kills, broken files.

    python benchmarks/convert.py --images=lfw --json=convert.json [--parts=rates,index]

Each part is a function `measure_PART`, which gets an empty folder.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import os
import pathlib
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
import simplejpeg

from fv import cli, files, manifest, record, tables, workers
from fv.conversion import checking, convert, folders, shards, storage
from fv.conversion import options as options_module
from fv.conversion import pairs as pairs_module
from fv.conversion.pair_sampling import Caps
from fv.errors import UserError
from fv.options import option, required

ROOT = pathlib.Path(__file__).resolve().parent.parent
PARTS = ("rates", "peers", "memory", "index", "kills", "broken")
MEMORY_SAMPLE_S = 0.05


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured, and on what."""

    images: str = required("folder that holds one folder of JPEG images per person")
    parts: str = option(",".join(PARTS), f"Which parts to run, of {', '.join(PARTS)}, with commas.")
    pairs: int = option(100_000, "Pairs that the images are converted to.", lower=2)
    max_pairs_per_identity: int = option(5_000, "As the converter's flag.", lower=1)
    max_pairs_per_image: int = option(100, "As the converter's flag.", lower=1)
    workers: int | None = option(None, "Processes; one per core if not given.", lower=1)
    repeats: int = option(3, "Times each rate is measured; the best counts.", lower=1)
    kills: int = option(30, "Times a conversion is killed.", lower=1)
    index_identities: int = option(
        1_000_000, "People of the simulated index, of ten images each.", lower=1_000
    )
    seed: int = option(0, "Of synthetic images, damage and the moments of kills.", lower=0)
    scratch: str | None = option(
        None, "Folder for temporary files; the system's temporary folder if not given."
    )
    json: str | None = option(None, "File to write the figures to.")

    @property
    def processes(self) -> int:
        """Number of worker processes."""
        return self.workers or workers.available_cores()

    def flags(self, folder: str) -> list[str]:
        """Returns the converter's flags for the images and pairs."""
        names = ("images", "pairs", "max_pairs_per_identity", "max_pairs_per_image")
        given = [f"--{name}={getattr(self, name)}" for name in names]
        return [f"--output={folder}", f"--workers={self.processes}", *given]


def main(options: BenchmarkOptions) -> None:
    """Runs the parts one after the other, each in an empty folder."""
    found = {}
    for part in options.parts.split(","):
        if part not in PARTS:
            raise UserError(f"--parts={options.parts}: '{part}' is none of {', '.join(PARTS)}")
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            found[part] = globals()[f"measure_{part}"](options, folder)
    print(files.to_json(found, indent=2))
    if options.json:
        files.save_json(found, options.json)


def start_converter(flags: list[str]) -> subprocess.Popen:
    """Starts tools/make_tfrecords.py in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, ROOT / "tools" / "make_tfrecords.py", *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def run_converter(flags: list[str]) -> tuple[float, int]:
    """Runs a conversion.

    Returns:
      Its seconds, and the largest sum of its processes' memory (PSS) in bytes.
    """
    peak, began = 0, time.perf_counter()
    with start_converter(flags) as process:
        while process.poll() is None:
            peak = max(peak, _tree_memory(process.pid))
            time.sleep(MEMORY_SAMPLE_S)
    if process.returncode:
        raise RuntimeError(f"make_tfrecords {' '.join(flags)} ended with {process.returncode}")
    return time.perf_counter() - began, peak


def _tree_memory(pid: int) -> int:
    """Returns the PSS of a process and all below it in bytes; 0 if it has just ended."""
    try:
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    own = next((int(line.split()[1]) for line in rollup.splitlines() if line[:4] == "Pss:"), 0)
    return own * 1024 + sum(_tree_memory(int(child)) for child in children)


def _run_anew(options: BenchmarkOptions, folder: str) -> tuple[float, int]:
    shutil.rmtree(folder, ignore_errors=True)
    return run_converter(options.flags(folder))


def _seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _read_pairs(folder: str) -> Iterator[dict]:
    """Yields the fields of every record of a converted folder."""
    for split in manifest.load(folder).splits.values():
        for shard in split.shards:
            with open(os.path.join(folder, shard.name), "rb") as file:
                for _, data in record.read_frames(file):
                    yield record.decode_pair(data)


# Part `rates`: checking beside decoding alone, writing beside a plain copy with fsync.

FILES_PER_TASK = 64
RULES = storage.StorageRules(max_pixels=64_000_000)


def measure_rates(options: BenchmarkOptions, folder: str) -> dict:
    """Returns rates in images/s and MB/s, shares of the ceilings, seconds and peak memory in MB."""
    made, repeats = os.path.join(folder, "shards"), range(options.repeats)
    chosen = options_module.ConvertOptions(
        options.images,
        made,
        options.pairs,
        max_pairs_per_identity=options.max_pairs_per_identity,
        max_pairs_per_image=options.max_pairs_per_image,
        workers=options.workers,
    )
    catalog = folders.scan_folders([options.images])
    found = catalog.images
    decode_s, check_s, write_s = _time_stages(chosen, catalog, folder, options)
    whole = [_run_anew(options, made) for _ in repeats]
    copy_s = min(_seconds(lambda: _copy(made, os.path.join(folder, "copy"))) for _ in repeats)
    splits = manifest.load(made).splits.values()
    megabytes = sum(shard.bytes for split in splits for shard in split.shards) / 1e6
    return {
        "images": len(found),
        "pairs": options.pairs,
        "processes": options.processes,
        "decode_only_images_per_s": round(len(found) / decode_s),
        "check_images_per_s": round(len(found) / check_s),
        "check_share_of_decode": round(decode_s / check_s, 2),
        "shards_mb": round(megabytes, 1),
        "copy_mb_per_s": round(megabytes / copy_s),
        "write_mb_per_s": round(megabytes / write_s),
        "write_share_of_copy": round(copy_s / write_s, 2),
        "whole_s": [round(seconds, 2) for seconds, _ in whole],
        "peak_memory_mb": round(max(peak for _, peak in whole) / 1e6),
    }


def decode_only(paths: list[str]) -> int:
    """Reads and decodes JPEGs to pixels and does nothing else: the ceiling of checking."""
    encoded = (pathlib.Path(path).read_bytes() for path in paths)
    jpegs = (data for data in encoded if data.startswith(b"\xff\xd8"))
    return sum(len(simplejpeg.decode_jpeg(data)) > 0 for data in jpegs)


def _time_stages(chosen, catalog, folder: str, options: BenchmarkOptions) -> tuple[float, ...]:
    """Returns the least seconds to decode only, to check and to write, in one running pool."""
    paths = [os.path.join(chosen.images, path) for path in catalog.images["path"]]
    tasks = [paths[at : at + FILES_PER_TASK] for at in range(0, len(paths), FILES_PER_TASK)]
    seconds = []
    os.mkdir(chosen.output)
    with workers.pool(options.processes) as run:

        def check() -> None:
            checking.check_images(catalog.images, chosen.images, folder, RULES, None, run, False)

        selected = convert.select(chosen, catalog, folder, run)
        counts = shards.count_shards(selected.tables, selected.images, chosen.shards)
        for _ in range(options.repeats):
            shards.clear_output(chosen.output)
            decode_s = _seconds(lambda: list(run(decode_only, tasks)))
            check_s = _seconds(check)
            write_s = _seconds(lambda: convert.write_shards(chosen, selected, counts, folder, run))
            seconds.append((decode_s, check_s, write_s))
    return tuple(map(min, zip(*seconds, strict=True)))


def _copy(source: str, target: str) -> None:
    shutil.rmtree(target, ignore_errors=True)
    os.mkdir(target)
    for path in pathlib.Path(source).glob("*.tfrecord"):
        _sync(shutil.copyfile(path, pathlib.Path(target, path.name)))


def _sync(path: str | pathlib.Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


# Part `peers`: two loops without checks that write the same pairs of the same images.


def measure_peers(options: BenchmarkOptions, folder: str) -> dict:
    """Returns pairs/s until the bytes are on the disk; fv's from the start of its process."""
    made, best = os.path.join(folder, "peers"), range(options.repeats)
    alone = dataclasses.replace(options, workers=1)
    seconds = {
        "fv, one process": min(_run_anew(alone, made)[0] for _ in best),
        "fv, all cores": min(_run_anew(options, made)[0] for _ in best),
    }
    names = (record.PATH_A, record.PATH_B)
    listed = [
        (*(os.path.join(options.images, pair[name].decode()) for name in names), pair[record.LABEL])
        for pair in _read_pairs(made)
    ]
    writers = {"tf.train.Example loop": _write_examples, "webdataset TarWriter": _write_tar}
    if not importlib.util.find_spec("webdataset"):
        print("webdataset is not installed: pip install -r benchmarks/requirements-peers.txt")
        del writers["webdataset TarWriter"]
    for name, write in writers.items():
        path = os.path.join(folder, "written")
        seconds[name] = min(_seconds(lambda w=write, p=path: w(listed, p)) for _ in best)
    return {"pairs_per_s": {name: round(options.pairs / each) for name, each in seconds.items()}}


def _write_examples(listed: list[tuple[str, str, int]], path: str) -> None:
    import fv.quiet_tensorflow  # noqa: F401, I001
    import tensorflow as tf

    def feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    with tf.io.TFRecordWriter(path) as writer:
        for a, b, label in listed:
            fields = {
                record.IMAGE_A: feature(pathlib.Path(a).read_bytes()),
                record.IMAGE_B: feature(pathlib.Path(b).read_bytes()),
                record.IDENTITY_A: feature(os.path.dirname(a).encode()),
                record.IDENTITY_B: feature(os.path.dirname(b).encode()),
                record.PATH_A: feature(a.encode()),
                record.PATH_B: feature(b.encode()),
                record.LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=fields))
            writer.write(example.SerializeToString())
    _sync(path)


def _write_tar(listed: list[tuple[str, str, int]], path: str) -> None:
    import webdataset

    with webdataset.TarWriter(path) as writer:
        for index, (a, b, label) in enumerate(listed):
            encoded = {"a.jpg": pathlib.Path(a).read_bytes(), "b.jpg": pathlib.Path(b).read_bytes()}
            writer.write({"__key__": f"{index:09d}", **encoded, "cls": label})
    _sync(path)


# Part `memory`: 10,000 and 100,000 small images, four pairs to an image.

SIZES = (10_000, 100_000)  # images
PAIRS_PER_IMAGE = 4
PAIRS_PER_SHARD = 2_000  # the same in both, so that a worker holds the same
IMAGES_PER_PERSON = 10
CELLS, CELL = 8, 4  # squares in a row, pixels of a square's side


def measure_memory(options: BenchmarkOptions, folder: str) -> dict:
    """Returns peak memory and seconds of both sizes, and the bytes of each added image or pair."""
    root, found, peaks = os.path.join(folder, "people"), {}, []
    for count in SIZES:
        _draw_squares(root, count, options.seed)
        wanted = count * PAIRS_PER_IMAGE
        flags = [f"--images={root}", f"--output={folder}/small", f"--pairs={wanted}", "--overwrite"]
        flags += [f"--shards={wanted // PAIRS_PER_SHARD}", f"--workers={options.processes}"]
        seconds, peak = run_converter(flags)
        row = {"pairs": wanted, "peak_mb": round(peak / 1e6, 1), "seconds": round(seconds, 1)}
        found[f"{count}_images"] = row
        peaks.append(peak)
    more = (SIZES[1] - SIZES[0]) * (1 + PAIRS_PER_IMAGE)
    return {**found, "bytes_for_each_more_image_or_pair": round((peaks[1] - peaks[0]) / more, 1)}


def _draw_squares(root: str, count: int, seed: int) -> None:
    """Writes `count` small pictures of random squares; those that exist stay."""
    for number in range(count):
        name = f"person_{number // IMAGES_PER_PERSON:06d}/{number % IMAGES_PER_PERSON:04d}.jpg"
        path = pathlib.Path(root, name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng((seed, number))
            pixels = rng.integers(0, 256, (CELLS, CELLS, 3), np.uint8).repeat(CELL, 0)
            pixels = np.ascontiguousarray(pixels.repeat(CELL, 1))
            path.write_bytes(simplejpeg.encode_jpeg(pixels, 75))


# Part `index`: sampling alone from ten million images.

INDEX_CAPS = Caps(identity=100, image=20)
INDEX_IMAGES, INDEX_PAIRS = 10, 50  # of an identity


def measure_index(options: BenchmarkOptions, _: str) -> dict:
    """Returns seconds and peak memory in GB, and asserts labels, balance, uniqueness and caps."""
    identities = options.index_identities
    owner = np.repeat(np.arange(identities, dtype=np.int32), INDEX_IMAGES)
    columns = {
        "identity": pd.Categorical.from_codes(owner, pd.RangeIndex(identities)),
        "split": pd.Categorical.from_codes(np.zeros(len(owner), np.int8), ["train"]),
    }
    table = pd.DataFrame(columns)
    wanted = options_module.ConvertOptions(
        options.images,
        pairs=identities * INDEX_PAIRS,
        max_pairs_per_identity=INDEX_CAPS.identity,
        max_pairs_per_image=INDEX_CAPS.image,
        seed=options.seed,
    )
    start = time.perf_counter()
    drawn = pairs_module.sample_pairs(table, wanted)["train"]
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    _check_pairs(drawn, owner, identities * INDEX_PAIRS)
    return {
        "images": len(owner),
        "identities": identities,
        "pairs": len(drawn),
        "seconds": round(seconds),
        "peak_memory_gb": round(peak / 2**30, 2),
        "checked": "balanced, labels right, none twice, within caps",
    }


def _check_pairs(table: pd.DataFrame, owner: np.ndarray, wanted: int) -> None:
    ends = np.sort(table[["a", "b"]].to_numpy(), axis=1).astype(np.int64)
    keys = np.sort(ends[:, 0] * len(owner) + ends[:, 1])
    assert len(table) == wanted, "a pair is missing"
    assert (np.diff(keys) > 0).all(), "a pair comes twice"
    genuine = (table["label"] == record.GENUINE).to_numpy()
    assert 2 * genuine.sum() == wanted, "the labels are not balanced"
    assert ((owner[ends[:, 0]] == owner[ends[:, 1]]) == genuine).all(), "a label is wrong"
    for of_label in (ends[genuine], ends[~genuine]):
        assert np.bincount(of_label.ravel()).max() <= INDEX_CAPS.image, "an image exceeds its cap"
    for of_label in (owner[ends[genuine, 0]], owner[ends[~genuine].ravel()]):
        assert np.bincount(of_label).max() <= INDEX_CAPS.identity, "an identity exceeds its cap"


# Part `kills`: killed at a random moment and run again.


def measure_kills(options: BenchmarkOptions, folder: str) -> dict:
    """Returns how many shards were whole at each kill; asserts the bytes of an undisturbed run."""
    whole, killed = os.path.join(folder, "whole"), os.path.join(folder, "killed")
    seconds, _ = run_converter(options.flags(whole))
    wanted, rng, found = _checksums(whole), random.Random(options.seed), []
    for _ in range(options.kills):
        shutil.rmtree(killed, ignore_errors=True)
        with start_converter(options.flags(killed)) as process:
            time.sleep(rng.uniform(0.0, seconds))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if os.path.exists(os.path.join(killed, manifest.FILE_NAME)):
            found.append("after its end")
        else:
            found.append(str(len(list(pathlib.Path(killed).glob("*.tfrecord")))))
            run_converter(options.flags(killed))
            assert sorted(os.listdir(killed)) == sorted(os.listdir(whole)), "a file is left over"
        assert _checksums(killed) == wanted, "the shards differ from those of the undisturbed run"
    return {"kills": options.kills, "identical": options.kills, "shards_whole_when_killed": found}


def _checksums(folder: str) -> dict[str, str]:
    """Returns the SHA-256 of each shard; asserts that the manifest has the same."""
    paths = pathlib.Path(folder).glob("*.tfrecord")
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    splits = manifest.load(folder).splits.values()
    listed = {shard.name: shard.sha256 for split in splits for shard in split.shards}
    assert found == listed, "the manifest has other checksums"
    return found


# Part `broken`: 2,000 broken files among 2,000 sound ones.

BROKEN_FILES, BROKEN_PEOPLE = 2_000, 400
FLIPS = 40  # changed bytes in a file: enough that a decoder meets one


def measure_broken(options: BenchmarkOptions, folder: str) -> dict:
    """Returns what was left out; asserts that exactly the broken files were, each with a reason."""
    root, made = os.path.join(folder, "broken"), os.path.join(folder, "of_broken")
    paths = folders.scan_folders([options.images]).images["path"].tolist()
    sound, broken = _write_broken(paths, options.images, root, random.Random(options.seed))
    flags = [f"--images={root}", f"--output={made}", f"--workers={options.processes}"]
    seconds, _ = run_converter(flags)
    left_out = tables.read(os.path.join(made, "left_out.csv"), ("path", "reason"))
    assert set(left_out["path"]) == set(broken), "other files than the broken ones were left out"
    assert all(left_out["reason"]), "a reason is missing"
    used = {pair[n].decode() for pair in _read_pairs(made) for n in (record.PATH_A, record.PATH_B)}
    assert used <= sound, "a broken file was converted"
    kinds = pd.Series(broken).value_counts().to_dict()
    counts = {"sound": len(sound), "left_out": len(left_out)}
    return {"seconds": round(seconds, 1), **counts, "kinds": kinds}


def _write_broken(
    paths: list[str], source: str, root: str, rng: random.Random
) -> tuple[set[str], dict[str, str]]:
    """Writes sound and damaged copies; returns the sound paths, and the damage by broken path."""
    sound, broken, kinds = set(), {}, list(DAMAGE)
    for index, path in enumerate(rng.sample(paths, 2 * BROKEN_FILES)):
        data = pathlib.Path(source, path).read_bytes()
        kind = kinds[index % len(kinds)] if index >= BROKEN_FILES else ""
        suffix = "_broken.JPG" if kind else ".jpg"
        name = f"person_{index % BROKEN_PEOPLE:03d}/{index:05d}{suffix}"
        target = pathlib.Path(root, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == "directory":
            target.mkdir()
        else:
            target.write_bytes(DAMAGE[kind](data, rng) if kind else data)
        if kind:
            broken[name] = kind
        else:
            sound.add(name)
    return sound, broken


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data) - 2)]


def _flip(data: bytes, rng: random.Random) -> bytes:
    """Writes wrong bytes over the picture: 0xFF begins a marker that no decoder expects there."""
    changed = bytearray(data)
    for _ in range(FLIPS):
        at = rng.randrange(len(data) // 2, len(data) - 3)
        changed[at : at + 2] = bytes((0xFF, rng.randrange(1, 0xC0)))
    return bytes(changed)


def _enlarge(data: bytes, _: random.Random) -> bytes:
    """Writes 60,000 × 60,000 pixels into the frame header."""
    markers = (bytes((0xFF, marker)) for marker in (0xC0, 0xC2))
    at = next(data.index(marker) for marker in markers if marker in data)
    return data[: at + 5] + struct.pack(">HH", 60_000, 60_000) + data[at + 9 :]


DAMAGE = {
    "cut": _cut,
    "flipped": _flip,
    "wrong_magic": lambda data, rng: rng.randbytes(4) + data[4:],
    "huge": _enlarge,
    "empty": lambda data, rng: b"",
    "directory": None,
}


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
