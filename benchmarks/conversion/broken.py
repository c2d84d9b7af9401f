"""Whether 2,000 broken files among 2,000 sound ones are each named with a reason, and every sound one converted."""

import os
import pathlib
import random
import struct

import pandas as pd

from benchmarks.conversion import command
from benchmarks.conversion.options import BenchmarkOptions
from fv import manifest, record, tables
from fv.conversion import catalog

COUNT = 2_000
PEOPLE = 400
FLIPS = 40  # bytes changed in a file: enough that a decoder meets one


def measure(options: BenchmarkOptions, folder: str) -> dict:
    """Seconds, how many of each kind of damage were left out, and the sound images in the shards.

    Raises:
      AssertionError: a broken file was taken, a sound one was not, or a reason is missing.
    """
    root, output = os.path.join(folder, "broken"), os.path.join(folder, "of_broken")
    rng = random.Random(options.seed)
    sound, broken = _make(
        catalog.scan(options.images)[0]["path"].tolist(), options.images, root, rng
    )
    seconds, _ = command.run(
        [f"--images={root}", f"--output={output}", f"--workers={options.processes}"]
    )
    left_out = tables.read(os.path.join(output, "left_out.csv"), ("path", "reason"))
    assert set(left_out["path"]) == set(broken), "not the broken files were left out"
    assert all(left_out["reason"]), "a reason is missing"
    assert _converted(output) <= sound, "a broken file was converted"
    kinds = pd.Series(broken).value_counts().to_dict()
    return {
        "seconds": round(seconds, 1),
        "sound": len(sound),
        "left_out": len(left_out),
        "kinds": kinds,
    }


def _make(
    paths: list[str], images: str, root: str, rng: random.Random
) -> tuple[set[str], dict[str, str]]:
    """Copies sound files to people of five, and damaged ones beside them; returns the sound, and the kind of each broken."""
    chosen = rng.sample(paths, 2 * COUNT)
    sound, broken, kinds = set(), {}, list(DAMAGE)
    for index, path in enumerate(chosen):
        data = pathlib.Path(images, path).read_bytes()
        kind = kinds[index % len(kinds)] if index >= COUNT else ""
        name = f"person_{index % PEOPLE:03d}/{index:05d}{'.jpg' if not kind else '_broken.JPG'}"
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
    """Wrong bytes all over the picture; a stray 0xFF begins a marker that no decoder expects there."""
    changed = bytearray(data)
    for _ in range(FLIPS):
        at = rng.randrange(len(data) // 2, len(data) - 3)
        changed[at : at + 2] = bytes((0xFF, rng.randrange(1, 0xC0)))
    return bytes(changed)


def _wrong_magic(data: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(4) + data[4:]


def _huge(data: bytes, _: random.Random) -> bytes:
    """60,000 × 60,000 pixels in the frame header."""
    at = next(
        data.index(bytes((0xFF, marker)))
        for marker in (0xC0, 0xC2)
        if bytes((0xFF, marker)) in data
    )
    return data[: at + 5] + struct.pack(">HH", 60_000, 60_000) + data[at + 9 :]


def _empty(_: bytes, __: random.Random) -> bytes:
    return b""


DAMAGE = {
    "cut": _cut,
    "flipped": _flip,
    "wrong_magic": _wrong_magic,
    "huge": _huge,
    "empty": _empty,
    "directory": None,
}


def _converted(folder: str) -> set[str]:
    """Paths of all images in the shards."""
    found = set()
    for split in manifest.load(folder).splits.values():
        for shard in split.shards:
            with open(os.path.join(folder, shard.name), "rb") as file:
                for _, data in record.read_frames(file):
                    pair = record.decode_pair(data)
                    found |= {pair[record.PATH_A].decode(), pair[record.PATH_B].decode()}
    return found
