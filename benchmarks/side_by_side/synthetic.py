"""Shards of tiny images, as many as wanted: what is left of the cost of an image when there is next to nothing to decode."""

import hashlib
import os

import numpy as np
import simplejpeg

from fv import manifest, record

SIDE = 16  # pixels
DISTINCT = 100  # records; longer shards repeat them
PEOPLE = ("person_0", "person_1")


def write_shards(folder: str, shards: int, records: int) -> None:
    """Writes `records` training pairs in `shards` shards of one size, and their manifest."""
    os.makedirs(folder)
    framed = [record.frame(_pair(np.random.default_rng(seed))) for seed in range(DISTINCT)]
    written = [
        _write_shard(folder, manifest.shard_name("train", i, shards), framed, records // shards)
        for i in range(shards)
    ]
    pairs = records // shards * shards
    split = manifest.Split(pairs, 0, 2 * pairs, PEOPLE, tuple(written))
    manifest.save(
        manifest.Manifest(seed=0, flags="", splits={"train": split}, image_side=SIDE), folder
    )


def _write_shard(folder: str, name: str, framed: list[bytes], records: int) -> manifest.Shard:
    whole, rest = divmod(records, len(framed))
    data = b"".join(framed) * whole + b"".join(framed[:rest])
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)
    return manifest.Shard(name, records, len(data), hashlib.sha256(data).hexdigest())


def _pair(pixels: np.random.Generator) -> bytes:
    images = pixels.integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    first, second = (simplejpeg.encode_jpeg(image, 50) for image in images)
    names = {record.IDENTITY_A: PEOPLE[0].encode(), record.IDENTITY_B: PEOPLE[0].encode()}
    paths = {record.PATH_A: b"person_0/0.jpg", record.PATH_B: b"person_0/1.jpg"}
    return record.encode_pair(
        {
            record.IMAGE_A: first,
            record.IMAGE_B: second,
            record.LABEL: record.GENUINE,
            **names,
            **paths,
        }
    )
