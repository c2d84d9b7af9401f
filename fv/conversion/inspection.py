"""Inspects finished shards: checks every byte, counts and samples records, writes images back."""

import contextlib
import dataclasses
import functools
import hashlib
import heapq
import io
import itertools
import json
import os
import random
import tarfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fv import files, manifest, progress, record
from fv.conversion import image_files
from fv.errors import UserError

Fields = dict[str, Any]  # of a record, as `record.decode_pair` returns them

_TAR = ".tar"
_TAR_BYTES = 1 << 30  # of one tar; WebDataset's advice is 100 MB to a few GB
_SHOWN_DIGITS = 8  # of a path's digest, in a name that would be there twice


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


class ImageWriter(contextlib.AbstractContextManager):
    """Writes each image of the records that `add` is called with once.

    Everything goes to a temporary folder beside the target until `publish`. The temporary folder is
    removed at the end of the block.

    Args:
      target: a new folder, for SPLIT/PERSON/NAME.jpg; or STEM.tar, for files STEM-SPLIT-NNNNN.tar
        of pairs NUMBER.jpg and NUMBER.json, which has the fields `identity` and `path`.
      splits: the split of each person.

    Raises:
      UserError: the target exists.
    """

    def __init__(self, target: str, splits: Mapping[str, str]):
        stem, suffix = os.path.splitext(target.rstrip("/"))
        self._is_tar = suffix == _TAR
        self._target = stem if self._is_tar else target.rstrip("/")
        parent, start = os.path.split(self._target)
        names = os.listdir(parent or ".") if files.is_folder(parent or ".") else []
        there = [n for n in names if n.startswith(f"{start}-") and n.endswith(_TAR)]
        if there if self._is_tar else start in names:
            raise UserError(
                f"--export={target}: {os.path.join(parent, there[0] if there else start)} is there "
                "already: give another name, or move it away"
            )
        self._splits, self._folder = splits, f"{self._target}{files.TEMPORARY_SUFFIX}{os.getpid()}"
        self._seen: set[bytes] = set()  # paths of images
        self._names: set[str] = set()  # of files
        self._tars: dict[str, tarfile.TarFile] = {}  # the last of each split

    def __exit__(self, *_: object) -> None:
        for tar in self._tars.values():
            tar.close()
        files.remove_folder(self._folder)

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, pair: Fields) -> None:
        """Writes both images of a record, if they are new."""
        for image, identity, path in (
            (record.IMAGE_A, record.IDENTITY_A, record.PATH_A),
            (record.IMAGE_B, record.IDENTITY_B, record.PATH_B),
        ):
            if pair[path] not in self._seen:
                write = self._write_member if self._is_tar else self._write_file
                write(pair[image], pair[identity].decode(), pair[path].decode())
                self._seen.add(pair[path])

    def publish(self) -> None:
        """Gives the files their names; call it after the last `add`."""
        if not self._is_tar:
            os.rename(self._folder, self._target)
            return
        for tar in self._tars.values():
            tar.close()
        for name in os.listdir(self._folder):
            os.rename(os.path.join(self._folder, name), f"{self._target}-{name}")

    def _write_file(self, data: bytes, identity: str, path: str) -> None:
        name = path.removeprefix(f"{identity}/")
        name = name if name.lower().endswith((".jpg", ".jpeg")) else f"{name}.jpg"
        folder = os.path.join(self._folder, self._splits[identity], _file_name(identity))
        file = os.path.join(folder, _file_name(name))
        if file in self._names:
            digest = hashlib.sha256(path.encode()).hexdigest()[:_SHOWN_DIGITS]
            file = os.path.join(folder, f"{digest}_{_file_name(name)}")
        self._names.add(file)
        os.makedirs(folder, exist_ok=True)
        with open(file, "xb") as output:
            output.write(data)

    def _write_member(self, data: bytes, identity: str, path: str) -> None:
        split, number = self._splits[identity], 0
        last = self._tars.get(split)
        if last and last.offset >= _TAR_BYTES:
            number = int(str(last.name).rpartition("-")[2].removesuffix(_TAR)) + 1
            last.close()
        if not last or number:
            os.makedirs(self._folder, exist_ok=True)
            file = os.path.join(self._folder, f"{split}-{number:05d}{_TAR}")
            self._tars[split] = tarfile.open(file, "x")  # noqa: SIM115
        described = json.dumps({"identity": identity, "path": path}).encode()
        for suffix, content in (("jpg", data), ("json", described)):
            info = tarfile.TarInfo(f"{len(self._seen):09d}.{suffix}")
            info.size = len(content)
            self._tars[split].addfile(info, io.BytesIO(content))


def inspect(
    folder: str, visits: Sequence[Callable[[Fields], None]] = ()
) -> tuple[dict[str, Tally], list[str]]:
    """Reads every record of every shard of a data set, and calls `visits` with each sound one.

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
    with progress.Progress(total, "inspect", "pair") as bar:
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
        if not pair[name].startswith(image_files.JPEG_START):
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


def _file_name(text: str) -> str:
    """A text as the name of one visible file."""
    name = text.replace("/", "_").replace("\0", "_")
    return f"_{name}" if not name or name.startswith(".") else name
