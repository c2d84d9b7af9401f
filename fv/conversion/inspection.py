"""Inspects finished shards: checks every byte, counts the records, and draws a sample of them."""

import dataclasses
import functools
import heapq
import itertools
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

from fv import files, manifest, progress, record
from fv.conversion import jpeg

Fields = dict[str, Any]  # of a record, as `record.decode_pair` returns them


@dataclasses.dataclass
class Tally:
    """Counts what the records of one split hold."""

    genuine: int = 0
    impostor: int = 0
    image_bytes: int = 0
    identities: set[bytes] = dataclasses.field(default_factory=set)
    images: set[bytes] = dataclasses.field(default_factory=set)

    @property
    def pairs(self) -> int:
        """Number of records."""
        return self.genuine + self.impostor

    def add(self, pair: Fields) -> None:
        """Counts one record."""
        self.genuine += pair[record.LABEL] == record.GENUINE
        self.impostor += pair[record.LABEL] == record.IMPOSTOR
        self.image_bytes += len(pair[record.IMAGE_A]) + len(pair[record.IMAGE_B])
        self.identities |= {pair[record.IDENTITY_A], pair[record.IDENTITY_B]}
        self.images |= {pair[record.PATH_A], pair[record.PATH_B]}


class PairSample:
    """A random sample of the records that `add` is called with; memory holds only the sample.

    Args:
      count: number of records in the sample, half of them genuine.
      seed: the same seed and the same records give the same sample.
    """

    def __init__(self, count: int, seed: int):
        self._sizes = {record.GENUINE: count - count // 2, record.IMPOSTOR: count // 2}
        # By label, a heap of (−draw, −number of the record, record): the lowest draws stay.
        self._kept: dict[int, list[tuple[float, int, Fields]]] = {
            label: [] for label in self._sizes
        }
        self._random = random.Random(seed)
        self._seen = 0

    def add(self, pair: Fields) -> None:
        """Offers a record; every record of its label is as likely to be in the sample."""
        kept = self._kept[pair[record.LABEL]]
        self._seen += 1
        heapq.heappush(kept, (-self._random.random(), -self._seen, pair))
        if len(kept) > self._sizes[pair[record.LABEL]]:
            heapq.heappop(kept)

    def pairs(self) -> list[Fields]:
        """Returns the sample: genuine pairs first, and those of a label in the order of `add`."""
        kept = (sorted(heap, key=lambda entry: -entry[1]) for heap in self._kept.values())
        return [pair for heap in kept for _, _, pair in heap]


def inspect(
    folder: str, visits: Sequence[Callable[[Fields], None]] = ()
) -> tuple[dict[str, Tally], list[str]]:
    """Reads every record of every shard of a data set.

    Args:
      folder: the data set.
      visits: called with every sound record.

    Returns:
      By split, a tally of its sound records; and one line for each damage, empty if there is none.

    Raises:
      UserError: `folder` has no manifest, or one of another schema.
      TemporaryError: reading failed, and may succeed later.
    """
    described = manifest.read(folder)
    tallies: dict[str, Tally] = {}
    damage: list[str] = []
    total = sum(split.pairs for split in described.splits.values())
    with progress.progress(total, "inspect", "pair") as bar:
        for name, split in described.splits.items():
            tally = tallies[name] = Tally()
            for shard in split.shards:
                path = os.path.join(folder, shard.name)
                damage += _inspect_shard(path, shard, set(split.identities), tally, visits)
                bar.update(shard.records)
            if not damage and (tally.genuine, tally.impostor) != (split.genuine, split.impostor):
                damage.append(
                    f"{name}: {tally.genuine} + {tally.impostor} genuine and impostor pairs, where "
                    f"{manifest.FILE_NAME} lists {split.genuine} + {split.impostor}"
                )
    return tallies, damage + _find_leaks(described)


def _inspect_shard(
    path: str,
    shard: manifest.Shard,
    identities: set[str],
    tally: Tally,
    visits: Sequence[Callable[[Fields], None]],
) -> list[str]:
    """Counts the records before the first damaged one, and returns the damage."""
    if not files.exists(path):
        return [f"{path} is missing"]
    parse = functools.partial(_parse, identities=identities)
    try:
        for _, pair in record.read_records(path, shard.records, parse):
            tally.add(pair)
            for visit in visits:
                visit(pair)
    except record.DamagedRecordError as error:
        return [str(error)]
    if files.sha256(path) != shard.sha256:
        return [
            f"{path}: every record is sound, but the file is not the one that "
            f"{manifest.FILE_NAME} lists: the checksums differ"
        ]
    return []


def _parse(data: bytes, identities: set[str]) -> Fields:
    """Decodes a record and checks the values of its fields."""
    pair: Fields = record.decode_pair(data)
    label = pair[record.LABEL]
    if label not in (record.GENUINE, record.IMPOSTOR):
        raise record.DamagedRecordError(f"{record.LABEL} is {label}, neither 0 nor 1")
    same = pair[record.IDENTITY_A] == pair[record.IDENTITY_B]
    if same != (label == record.GENUINE):
        raise record.DamagedRecordError(
            f"{record.LABEL} is {label}, which the identities contradict"
        )
    for name in record.IMAGES:
        if not pair[name].startswith(jpeg.START):
            raise record.DamagedRecordError(f"{name} is not a JPEG")
    for name in (record.IDENTITY_A, record.IDENTITY_B):
        if pair[name].decode(errors="replace") not in identities:
            raise record.DamagedRecordError(f"{name} is not an identity of the split")
    return pair


def _find_leaks(described: manifest.Manifest) -> list[str]:
    """Finds identities that are in two splits."""
    return [
        f"identity {identity} is in {first} and in {second}"
        for (first, one), (second, other) in itertools.combinations(described.splits.items(), 2)
        for identity in sorted(set(one.identities) & set(other.identities))
    ]
