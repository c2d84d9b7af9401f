"""The manifest: what a folder of shards holds. The converter writes it last, so a folder with a manifest is whole."""

import dataclasses
import os

from fv import files, ownership, record
from fv.errors import UserError
from fv.preprocessing import Preprocessing

FILE_NAME = "manifest.json"
SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file: its name in the folder, its records, its size in bytes and the SHA-256 of its bytes (hex)."""

    name: str
    records: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Split:
    """One split: its pairs by label, the images in them, the identities assigned to it (sorted), and its shards."""

    genuine: int
    impostor: int
    images: int
    identities: tuple[str, ...]
    shards: tuple[Shard, ...]

    @property
    def pairs(self) -> int:
        """Number of pairs, which is the number of records."""
        return self.genuine + self.impostor


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A converted data set.

    Attributes:
      seed: of splits, pairs and order.
      flags: the converter's flagfile.
      splits: what each split holds, by its name in `SPLITS`.
      image_side: side in pixels where every stored image is a square of one size, else None.
      schema_version: of the record.
      preprocessing: what was done to the images before they were stored; None where that is not known. Of a manifest
        without it, it is derived from `flags`.
    """

    seed: int
    flags: str
    splits: dict[str, Split]
    image_side: int | None = None
    schema_version: int = record.SCHEMA_VERSION
    preprocessing: Preprocessing | None = None

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
          UserError: the data set has no such split, or no pair in it.
        """
        if not self.holds(name):
            held = ", ".join(filter(self.holds, self.splits)) or "none"
            how = f"convert again with --overwrite and {self._flag_for(name)}"
            raise UserError(f"the shards hold no '{name}' pairs, only {held}: {how}")
        return self.splits[name]

    def holds(self, name: str) -> bool:
        """Whether there is a pair in the split of that name."""
        return name in self.splits and self.splits[name].pairs > 0

    def _flag_for(self, name: str) -> str:
        """The converter's flag that fills a split."""
        if "--pairs_file=" in self.flags or "--pairs_csv=" in self.flags:
            return f"--pairs_split={name}"
        return (
            f"--{name}_fraction above 0"
            if name != "train"
            else "lower --val_fraction and --test_fraction"
        )


def shard_name(split: str, index: int, count: int) -> str:
    """File name of shard `index` of `count`, as in train-00000-of-00008.tfrecord."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def save(manifest: Manifest, folder: str) -> None:
    """Writes the manifest into `folder`, whole or not at all."""
    fields = dataclasses.asdict(manifest)
    fields["preprocessing"] = manifest.preprocessing and manifest.preprocessing.to_json()
    ownership.save_json(fields, os.path.join(folder, FILE_NAME), indent=1)


def load(folder: str) -> Manifest:
    """Reads the manifest of `folder` and checks that each shard is there with the size it was written with.

    Raises:
      UserError: no such folder, no manifest, a manifest of another schema, a shard missing or cut short.
    """
    manifest = read(folder)
    for split in manifest.splits.values():
        for shard in split.shards:
            _check_size(folder, shard)
    return manifest


def read(folder: str) -> Manifest:
    """Reads the manifest of `folder` without a look at the shards.

    Raises:
      UserError: no such folder, no manifest, a manifest of another schema.
    """
    path = os.path.join(folder, FILE_NAME)
    if not files.exists(path):
        raise UserError(
            f"{folder} holds no {FILE_NAME}: give a folder that tools/make_tfrecords.py finished"
        )
    return _parse(files.read_bytes(path), path)


def _parse(text: bytes, path: str) -> Manifest:
    try:
        fields = files.parse_json(text, path)
    except UserError as error:
        raise UserError(
            f"{path} is not a manifest of fv ({error}): convert again into another folder"
        ) from error
    try:
        version = fields["schema_version"]
        if version != record.SCHEMA_VERSION:
            raise UserError(
                f"{path} has schema {version}, this fv reads {record.SCHEMA_VERSION}: convert again into another folder"
            )
        splits = {name: _parse_split(split) for name, split in fields["splits"].items()}
        preprocessing = Preprocessing.from_json(fields.get("preprocessing"), path)
        if "preprocessing" not in fields:
            preprocessing = Preprocessing.from_flagfile(fields["flags"])
        return Manifest(**{**fields, "splits": splits, "preprocessing": preprocessing})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not a manifest of fv ({error!r}): convert again into another folder"
        ) from error


def _parse_split(fields: dict) -> Split:
    shards = tuple(Shard(**shard) for shard in fields["shards"])
    return Split(**{**fields, "identities": tuple(fields["identities"]), "shards": shards})


def _check_size(folder: str, shard: Shard) -> None:
    path = os.path.join(folder, shard.name)
    if not files.exists(path):
        raise UserError(
            f"{path} is missing, though {FILE_NAME} lists it: convert again with --overwrite"
        )
    size = files.size(path)
    if size != shard.bytes:
        damage = f"{path} has {size:,} bytes where {FILE_NAME} says {shard.bytes:,}"
        raise UserError(
            f"{damage}: it was cut short or changed; remove it and convert again with --overwrite"
        )
