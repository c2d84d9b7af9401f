"""The pairs of a split of shards, each distinct image known by its path and read when it is asked for."""

import array
import collections
import os

import numpy as np

from fv import files, manifest, progress, record
from fv.errors import UserError
from fv.evaluation.pair_set import Images, PairSet
from fv.pipeline import damage

_HEAD_BYTES = 12  # of a record's frame, before its data
_ENDS = (
    (record.PATH_A, record.IDENTITY_A, record.IMAGE_A),
    (record.PATH_B, record.IDENTITY_B, record.IMAGE_B),
)


def read(folder: str, split: str) -> PairSet:
    """Reads the labels, people and paths of a split in one pass; memory holds no image.

    Args:
      folder: of shards.
      split: its name.

    Raises:
      UserError: no such shards, or a record is damaged.
    """
    held = manifest.load(folder).split(split)
    index = _Index()
    with progress.progress(held.pairs, f"read {split}", "pair") as line:
        for shard in held.shards:
            _read_shard(os.path.join(folder, shard.name), folder, index, line.update)
    ends = np.array(index.ends, np.int64).reshape(-1, 2)
    labels = np.array(index.labels, np.int64)
    return PairSet(
        split, index.images(), ends[:, 0], ends[:, 1], labels, np.zeros(len(labels), np.int64)
    )


class _Index:
    """The images met so far and the record that holds each."""

    def __init__(self):
        self.ends, self.labels = array.array("q"), array.array("b")
        self._numbers: dict[str, int] = {}
        self._identities: list[str] = []
        self._places: list[
            tuple[str, int, int, str]
        ] = []  # shard, first byte of the record, its bytes, field of the image

    def add(self, pair: dict[str, bytes | int], place: tuple[str, int, int]) -> None:
        self.labels.append(pair[record.LABEL])
        for path, identity, image in _ENDS:
            name = pair[path].decode(errors="replace")
            if name not in self._numbers:
                self._numbers[name] = len(self._places)
                self._identities.append(pair[identity].decode(errors="replace"))
                self._places.append((*place, image))
            self.ends.append(self._numbers[name])

    def images(self) -> Images:
        counts = collections.Counter(self._identities)
        of_identity = np.array([counts[name] for name in self._identities])
        return Images(list(self._numbers), self._identities, of_identity, self._load)

    def _load(self, number: int) -> bytes:
        path, offset, length, image = self._places[number]
        return record.decode_pair(files.read_bytes(path, offset, length))[image]


def _read_shard(path: str, folder: str, index: _Index, after_pair) -> None:
    number, offset = 0, 0
    try:
        with files.open_bytes(path) as file:
            for number, (offset, data) in enumerate(record.read_frames(file)):  # noqa: B007  said where one is damaged
                index.add(record.decode_pair(data), (path, offset + _HEAD_BYTES, len(data)))
                after_pair()
    except record.DamagedRecordError as error:
        where = f"{path}: record {number} or the next, from byte {offset} on: {error}"
        raise UserError(damage.line_of_damage(folder, where, skippable=False)) from error
