"""A look at finished shards: is every byte what the converter wrote, and what do the records hold."""

import dataclasses
import os
from collections.abc import Callable

from fv import files, manifest, progress, record
from fv.conversion import jpeg

_FRAME_BYTES = 16  # of a record, beside its data

Visit = Callable[[dict[str, bytes | int]], None]


@dataclasses.dataclass
class Tally:
    """What the records of one split hold, counted."""

    genuine: int = 0
    impostor: int = 0
    image_bytes: int = 0
    identities: set[bytes] = dataclasses.field(default_factory=set)
    images: set[bytes] = dataclasses.field(default_factory=set)

    @property
    def pairs(self) -> int:
        """Number of records."""
        return self.genuine + self.impostor

    def add(self, pair: dict[str, bytes | int]) -> None:
        """Counts one record."""
        self.genuine += pair[record.LABEL] == record.GENUINE
        self.impostor += pair[record.LABEL] == record.IMPOSTOR
        self.image_bytes += len(pair[record.IMAGE_A]) + len(pair[record.IMAGE_B])
        self.identities |= {pair[record.IDENTITY_A], pair[record.IDENTITY_B]}
        self.images |= {pair[record.PATH_A], pair[record.PATH_B]}


def inspect(folder: str, visit: Visit | None = None) -> tuple[dict[str, Tally], list[str]]:
    """Reads every record of every shard.

    Args:
      folder: what the converter wrote.
      visit: is called with every sound record, as `record.decode_pair` gives it.

    Returns:
      A tally by split, of the records that are sound; and the damage found, one line each, empty where there is none.

    Raises:
      UserError: no manifest, or none of this schema.
    """
    described = manifest.read(folder)
    tallies, damage = {}, []
    with progress.progress(
        sum(split.pairs for split in described.splits.values()), "inspect", "pair"
    ) as bar:
        for name, split in described.splits.items():
            tallies[name] = Tally()
            for shard in split.shards:
                damage += _inspect_shard(folder, shard, set(split.identities), tallies[name], visit)
                bar.update(shard.records)
            if not damage:
                damage += _disagreement(name, split, tallies[name])
    return tallies, damage + _leaks(described)


def _inspect_shard(
    folder: str, shard: manifest.Shard, identities: set[str], tally: Tally, visit: Visit | None
) -> list[str]:
    """Adds the shard's records to the tally, up to the first that is damaged; returns the damage."""
    path = os.path.join(folder, shard.name)
    number, offset = 0, 0
    try:
        with open(path, "rb") as file:
            for offset, data in record.read_frames(file):
                pair = _checked(data, identities)
                tally.add(pair)
                if visit:
                    visit(pair)
                number, offset = number + 1, offset + _FRAME_BYTES + len(data)
    except FileNotFoundError:
        return [f"{path} is missing"]
    except record.DamagedRecordError as error:
        return [f"{path}: record {number} at byte {offset}: {error}"]
    if number != shard.records:
        return [
            f"{path}: ends at byte {offset} after {number} records where {manifest.FILE_NAME} says {shard.records}"
        ]
    if files.sha256(path) != shard.sha256:
        return [
            f"{path}: every record is whole, but they are not those of {manifest.FILE_NAME}: the checksums differ"
        ]
    return []


def _checked(data: bytes, identities: set[str]) -> dict[str, bytes | int]:
    """Decodes a record and checks what its fields must hold."""
    pair = record.decode_pair(data)
    if pair[record.LABEL] not in (record.GENUINE, record.IMPOSTOR):
        raise record.DamagedRecordError(f"{record.LABEL} is {pair[record.LABEL]}, neither 0 nor 1")
    if (pair[record.IDENTITY_A] == pair[record.IDENTITY_B]) != (
        pair[record.LABEL] == record.GENUINE
    ):
        raise record.DamagedRecordError(
            f"{record.LABEL} is {pair[record.LABEL]}, which the identities contradict"
        )
    for name in (record.IMAGE_A, record.IMAGE_B):
        if not pair[name].startswith(jpeg.START):
            raise record.DamagedRecordError(f"{name} is not a JPEG")
    for name in (record.IDENTITY_A, record.IDENTITY_B):
        if pair[name].decode(errors="replace") not in identities:
            raise record.DamagedRecordError(f"{name} is not an identity of the split")
    return pair


def _disagreement(name: str, split: manifest.Split, tally: Tally) -> list[str]:
    held, said = f"{tally.genuine} + {tally.impostor}", f"{split.genuine} + {split.impostor}"
    return (
        []
        if held == said
        else [f"{name}: {held} genuine and impostor pairs where {manifest.FILE_NAME} says {said}"]
    )


def _leaks(described: manifest.Manifest) -> list[str]:
    """Identities that are in two splits."""
    names = list(described.splits)
    found = []
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            both = sorted(
                set(described.splits[name].identities) & set(described.splits[other].identities)
            )
            found += [f"identity {identity} is in {name} and in {other}" for identity in both]
    return found
