"""The manifest of a folder of shards, and the images of its records.

The manifest is written last, so a folder with a manifest is whole.
"""

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fv import files, ownership, record
from fv.errors import UserError
from fv.preprocessing import Preprocessing

FILE_NAME = "manifest.json"
SPLITS = ("train", "val", "test")

_AGAIN = "convert again into another folder"


@dataclasses.dataclass(frozen=True)
class Shard:
    """A TFRecord file: its name in the folder, its records, bytes, and SHA-256 (hex)."""

    name: str
    records: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Split:
    """A split: its pairs by label, the images in them, its identities (sorted), and its shards."""

    genuine: int
    impostor: int
    images: int
    identities: tuple[str, ...]
    shards: tuple[Shard, ...]

    @property
    def pairs(self) -> int:
        """Number of pairs, which is the number of records."""
        return self.genuine + self.impostor


class StoredImage(NamedTuple):
    """Where a record holds an image.

    Attributes:
      path: of the image, relative to the images folder.
      identity: name of the person on it.
      shard: path of the shard.
      offset: byte of the shard at which the record's data begins.
      length: bytes of the record's data.
      side: 0 for the first image of the pair, 1 for the second.
    """

    path: str
    identity: str
    shard: str
    offset: int
    length: int
    side: int

    def read(self) -> bytes:
        """Reads the JPEG bytes."""
        data = files.read_bytes(self.shard, self.offset, self.length)
        return record.parse_pair(data).images[self.side]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A converted data set.

    Attributes:
      seed: of splits, pairs and order.
      flags: the converter's flagfile.
      splits: by name of `SPLITS`.
      image_side: side in pixels if every stored image is a square of one size, else None.
      schema_version: of the record.
      preprocessing: how the images are stored.
    """

    seed: int
    flags: str
    splits: dict[str, Split]
    image_side: int | None = None
    schema_version: int = record.SCHEMA_VERSION
    preprocessing: Preprocessing = Preprocessing()

    def split(self, name: str) -> Split:
        """Returns the split of that name.

        Raises:
          UserError: the data set has no pair in such a split.
        """
        if self.holds(name):
            return self.splits[name]
        held = ", ".join(filter(self.holds, self.splits)) or "none"
        if re.search(r"--pairs_file=|--pairs_csv=|--images=.*\.bin$", self.flags, re.M | re.I):
            flag = f"--pairs_split={name}"
        elif name == "train":
            flag = "lower --val_fraction and --test_fraction"
        else:
            flag = f"--{name}_fraction above 0"
        raise UserError(
            f"the shards hold no '{name}' pairs, only {held}: convert again with --overwrite and "
            f"{flag}"
        )

    def holds(self, name: str) -> bool:
        """Whether there is a pair in the split of that name."""
        return name in self.splits and self.splits[name].pairs > 0


def shard_name(split: str, index: int, count: int) -> str:
    """Returns the file name of shard `index` of `count`, as in train-00000-of-00008.tfrecord."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def save(manifest: Manifest, folder: str) -> None:
    """Writes the manifest into `folder`, whole or not at all."""
    fields = dataclasses.asdict(manifest)
    fields["preprocessing"] = manifest.preprocessing.to_json()
    ownership.save_json(fields, os.path.join(folder, FILE_NAME), indent=1)


def load(folder: str) -> Manifest:
    """Reads the manifest of `folder` and checks that every shard is there with its size.

    Raises:
      UserError: as `read`, or a shard is missing or has another size.
    """
    manifest = read(folder)
    for shard in (shard for split in manifest.splits.values() for shard in split.shards):
        path = os.path.join(folder, shard.name)
        if not files.exists(path):
            raise UserError(
                f"{path} is missing, though {FILE_NAME} lists it: convert again with --overwrite"
            )
        size = files.size(path)
        if size != shard.bytes:
            raise UserError(
                f"{path} has {size:,} bytes where {FILE_NAME} says {shard.bytes:,}: it was cut "
                "short or changed; remove it and convert again with --overwrite"
            )
    return manifest


def read(folder: str) -> Manifest:
    """Reads the manifest of `folder` without looking at the shards.

    Raises:
      UserError: there is no folder, no manifest, or a manifest of another schema.
    """
    path = os.path.join(folder, FILE_NAME)
    if not files.exists(path):
        raise UserError(
            f"{folder} holds no {FILE_NAME}: give a folder that tools/make_tfrecords.py finished"
        )
    text = files.read_bytes(path)
    try:
        fields = files.parse_json(text, path)
    except UserError as error:
        raise UserError(f"{path} is not a manifest of fv ({error}): {_AGAIN}") from error
    try:
        return _parse(fields, path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a manifest of fv ({error!r}): {_AGAIN}") from error


def read_pairs(folder: str, split: Split) -> Iterator[record.Pair]:
    """Yields the pairs of a split in the order of the shards.

    Raises:
      DamagedShardError: as `record.read_records`.
    """
    for _, _, pair in _read_records(folder, split.shards):
        yield pair


def list_images(
    folder: str, shards: Sequence[Shard]
) -> Iterator[tuple[int, tuple[StoredImage, StoredImage]]]:
    """Yields the label of every pair of shards, and where its two images are.

    An image that is in several pairs comes with each of them.

    Raises:
      UserError: a record is damaged.
      TemporaryError: reading failed, and may succeed later.
    """
    try:
        for path, frame, pair in _read_records(folder, shards):
            place = (path, frame.offset + record.HEAD_BYTES, len(frame.data))
            names = [name.decode(errors="replace") for name in pair.names]
            first = StoredImage(names[2], names[0], *place, 0)
            yield pair.label, (first, StoredImage(names[3], names[1], *place, 1))
    except record.DamagedShardError as error:
        raise UserError(damage_message(folder, str(error), skippable=False)) from error


def _read_records(
    folder: str, shards: Sequence[Shard]
) -> Iterator[tuple[str, record.Frame, record.Pair]]:
    """Yields the path of the shard, the frame and the pair of each record."""
    for shard in shards:
        path = os.path.join(folder, shard.name)
        for frame, pair in record.read_records(path, shard.records, record.parse_pair):
            yield path, frame, pair


def damage_message(folder: str, line: str, which: str = "", *, skippable: bool = True) -> str:
    """The message of a command that ends at a damaged record.

    Args:
      folder: where the shards are.
      line: names the record, and says what is wrong with it.
      which: how many there were.
      skippable: whether the command has --max_bad_records.
    """
    way = (
        "--max_bad_records=N skips up to N records"
        if skippable
        else "converting again with --overwrite mends it"
    )
    advice = f"python tools/inspect_tfrecords.py {folder} checks the whole set, {way}"
    return f"the shards in {folder} are damaged: {which}{line}; {advice}"


def _parse(fields: dict[str, Any], path: str) -> Manifest:
    version = fields["schema_version"]
    if version != record.SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema {version}, this fv reads {record.SCHEMA_VERSION}: {_AGAIN}"
        )
    splits = {
        name: Split(
            **split
            | {
                "identities": tuple(split["identities"]),
                "shards": tuple(Shard(**shard) for shard in split["shards"]),
            }
        )
        for name, split in fields["splits"].items()
    }
    preprocessing = Preprocessing.from_json(fields["preprocessing"], path)
    return Manifest(**fields | {"splits": splits, "preprocessing": preprocessing})
