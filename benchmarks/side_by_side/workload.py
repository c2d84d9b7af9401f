"""The work of an input benchmark: images, the pairs and shards made of them, and the batches."""

import csv
import dataclasses
import hashlib
import os
import pathlib

import cv2
import numpy as np
import simplejpeg

from fv import files, manifest, record
from fv.conversion import convert, options, pair_lists
from fv.errors import UserError

FILE_NAME = "workload.json"


@dataclasses.dataclass(frozen=True)
class Workload:
    """What a contestant gets.

    Attributes:
      folder: of images/PERSON/*.jpg, pairs.csv and the shards made of them.
      side: of the square images in a batch, in pixels.
      batch_size: pairs in a batch.
      cores: that a contestant may use.
      shuffle_buffer: records in the buffer of those that shuffle in one.
      decoder: fv's `--decoder`.
      cache: fv's `--cache`.
      warm_up_images: least number of images before the clock starts, such as an epoch.
    """

    folder: str
    side: int
    batch_size: int
    cores: int
    shuffle_buffer: int = 1024
    decoder: str = "auto"
    cache: str = "none"
    warm_up_images: int = 0

    @property
    def images(self) -> str:
        """Folder with one folder of JPEGs per person."""
        return os.path.join(self.folder, "images")

    @property
    def shards(self) -> str:
        """Folder of fv's shards, all of one split, train."""
        return os.path.join(self.folder, "shards")

    def image_paths(self) -> list[pathlib.Path]:
        """Paths of the JPEGs in order."""
        return sorted(pathlib.Path(self.images).glob("*/*.jpg"))

    def shard_paths(self) -> list[str]:
        """Paths of the shards in order."""
        return [
            os.path.join(self.shards, shard.name)
            for shard in manifest.load(self.shards).split("train").shards
        ]


def save(work: Workload) -> str:
    """Writes a workload for another process and returns the file's path."""
    path = os.path.join(work.folder, FILE_NAME)
    files.save_json(dataclasses.asdict(work), path)
    return path


def load(path: str) -> Workload:
    """Reads what `save` wrote."""
    return Workload(**files.load_json(path))


def mean_bytes(work: Workload) -> float:
    """Returns the mean size of a stored image: half a record's, with its names and frame."""
    split = manifest.load(work.shards).split("train")
    return sum(shard.bytes for shard in split.shards) / split.pairs / 2


SHARDS = 8
SUBSAMPLING = "420"
SMALLER_QUALITY = 95  # of images that are made smaller


def write_images(
    source: str, work: Workload, count: int, side: int | None = None, quality: int | None = None
) -> None:
    """Writes the first `count` JPEGs of a folder of faces to the workload's folder.

    Args:
      source: folder that holds one folder of JPEGs per person.
      work: whose images they become.
      count: how many.
      side: of the squares that they become, in pixels; None keeps their size.
      quality: of the new JPEGs, 4:2:0; None keeps their bytes.

    Raises:
      UserError: there are fewer.
    """
    paths = sorted(pathlib.Path(source).glob("*/*.jpg"))[:count]
    if len(paths) < count:
        found = f"{source} holds {len(paths)} images PERSON/*.jpg"
        raise UserError(f"{found} where --count={count}: give more, or a lower count")
    for path in paths:
        target = pathlib.Path(work.images, path.parent.name, path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_encode(path.read_bytes(), side, quality))


def convert_pairs(work: Workload, rounds: int = 1) -> None:
    """Converts the workload's images to shards with fv's converter.

    Args:
      work: whose images are there.
      rounds: pairs that each image is in; a pair that is drawn twice counts once.
    """
    names = [str(path.relative_to(work.images)) for path in work.image_paths()]
    order = np.random.default_rng(0)
    ends = np.concatenate([_draw_pairs(order, len(names)) for _ in range(rounds)])
    listed = os.path.join(work.folder, "pairs.csv")
    with files.atomic_open(listed) as file:
        rows = csv.writer(file)
        rows.writerow(pair_lists.COLUMNS)
        for first, second in np.unique(ends, axis=0):
            same = os.path.dirname(names[first]) == os.path.dirname(names[second])
            rows.writerow([names[first], names[second], int(same)])
    convert.convert(
        options.ConvertOptions(
            work.images, work.shards, pairs_csv=listed, pairs_split="train", shards=SHARDS
        )
    )


def _draw_pairs(order: np.random.Generator, images: int) -> np.ndarray:
    """Returns a random pairing, int64 [images // 2, 2], the lower index first."""
    return np.sort(order.permutation(images)[: images // 2 * 2].reshape(-1, 2))


def _encode(data: bytes, side: int | None, quality: int | None) -> bytes:
    if not side and not quality:
        return data
    pixels = simplejpeg.decode_jpeg(data)
    if side:
        pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(pixels, quality or SMALLER_QUALITY, colorsubsampling=SUBSAMPLING)


SYNTHETIC_SIDE = 16  # pixels
DISTINCT = 100  # records; longer shards repeat them
PEOPLE = ("person_0", "person_1")


def write_synthetic_shards(folder: str, shards: int, records: int) -> None:
    """Writes tiny images, so that all that is left of an image's cost is the reading."""
    os.makedirs(folder)
    framed = [record.frame(_encode_pair(np.random.default_rng(seed))) for seed in range(DISTINCT)]
    written = [
        _write_shard(folder, manifest.shard_name("train", i, shards), framed, records // shards)
        for i in range(shards)
    ]
    pairs = records // shards * shards
    split = manifest.Split(pairs, 0, 2 * pairs, PEOPLE, tuple(written))
    manifest.save(
        manifest.Manifest(seed=0, flags="", splits={"train": split}, image_side=SYNTHETIC_SIDE),
        folder,
    )


def _write_shard(folder: str, name: str, framed: list[bytes], records: int) -> manifest.Shard:
    whole, rest = divmod(records, len(framed))
    data = b"".join(framed) * whole + b"".join(framed[:rest])
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)
    return manifest.Shard(name, records, len(data), hashlib.sha256(data).hexdigest())


def _encode_pair(pixels: np.random.Generator) -> bytes:
    images = pixels.integers(0, 256, (2, SYNTHETIC_SIDE, SYNTHETIC_SIDE, 3), np.uint8)
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
