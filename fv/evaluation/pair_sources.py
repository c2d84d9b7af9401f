"""The pairs of a split of shards, each distinct image known by its path and read when it is asked for."""

import array
import collections
import dataclasses
import os
import shlex
import sys

import numpy as np

from fv import files, manifest, progress, record
from fv.conversion import images
from fv.errors import UserError
from fv.evaluation import pairs as pairs_module
from fv.evaluation import protocols
from fv.evaluation.options import EvaluateOptions
from fv.evaluation.pairs import Images, PairSet
from fv.evaluation.scores import Description
from fv.model import model_record
from fv.model.model_record import ModelRecord
from fv.pipeline import damage
from fv.preprocessing import Preprocessing

_HEAD_BYTES = 12  # of a record's frame, before its data
_ENDS = (
    (record.PATH_A, record.IDENTITY_A, record.IMAGE_A),
    (record.PATH_B, record.IDENTITY_B, record.IMAGE_B),
)


def read_shard_pairs(folder: str, split: str) -> PairSet:
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


# From options to pairs: those that are scored, and those that the threshold is chosen on.


@dataclasses.dataclass(frozen=True)
class Task:
    """What is scored.

    Attributes:
      scored: the pairs that the figures are of.
      choosing: those that threshold and probability are chosen on; None where the folds of `scored` choose for each other.
      rule: how the threshold is chosen, in words.
    """

    scored: PairSet
    choosing: PairSet | None
    rule: str


def treat_as_trained(options: EvaluateOptions, record: ModelRecord) -> EvaluateOptions:
    """The options with --crop and --store_size for the images of a list: the model's where they are not given.

    Raises:
      UserError: the model was trained on boxes, and none are given.
    """
    if not (options.pairs_list or options.threshold_pairs):
        return options
    preprocessing, crop = record.preprocessing, options.crop
    if crop is None and preprocessing is None:
        print(
            f"fv: warning: {options.workdir} does not say how its training images were cut: those of the list are "
            "taken whole; give --crop and --store_size as they were at conversion",
            file=sys.stderr,
        )
    if crop is None and preprocessing and preprocessing.boxes:
        raise UserError(
            f"{options.workdir} was trained on images cut to boxes: give --crop=CSV with the boxes of {options.images}, "
            "or --crop=none where its images are cut already"
        )
    if crop is None:
        fraction = preprocessing and preprocessing.crop_fraction
        crop = images.WHOLE if fraction is None else str(fraction)
    size = options.store_size or (preprocessing.store_size if preprocessing else None)
    return dataclasses.replace(options, crop=crop, store_size=size)


def read_pairs(options: EvaluateOptions, record: ModelRecord) -> Task:
    """Reads the pairs of `check`ed options that a model is scored on.

    Raises:
      UserError: shards or lists cannot be used or do not fit the model, nothing says what to choose the threshold on, or it
        would be chosen on the very pairs that are scored, wherever and however they are written.
    """
    scored = _read_scored(options, record)
    choosing = _read_choosing(options, record)
    if choosing:
        if choosing.digest() == scored.digest():
            same = f"{choosing.name} holds the same pairs as {scored.name}, which is scored"
            raise UserError(f"{same}: choose the threshold on others, or by --folds")
        return Task(scored, choosing, f"chosen on {choosing.name}")
    if options.folds:
        scored = protocols.make_folds(scored, options.folds, options.seed)
    folds = int(scored.folds.max()) + 1
    if folds == 1:
        raise UserError(
            f"{scored.name} has no folds, and its threshold may not come from itself: give --folds, "
            "--threshold_pairs or --threshold_tfrecords"
        )
    return Task(scored, None, f"chosen on the other of {folds} folds")


def _read_scored(options: EvaluateOptions, record: ModelRecord) -> PairSet:
    if options.pairs_list:
        return _read_list(options.pairs_list, options, record, is_csv=options.pairs_csv is not None)
    return _read_shards(options.tfrecords, options.split, options, record)


def _read_choosing(options: EvaluateOptions, record: ModelRecord) -> PairSet | None:
    if options.folds:
        return None
    if options.threshold_pairs:
        return _read_list(
            options.threshold_pairs,
            options,
            record,
            is_csv=options.threshold_pairs.endswith(".csv"),
        )
    folder = options.threshold_tfrecords or options.tfrecords
    if folder is None:
        return None
    if not manifest.read(folder).holds(options.threshold_split):
        ways = "name shards that do by --threshold_tfrecords, or let folds of the scored people choose it by --folds=10"
        raise UserError(
            f"{folder} holds no '{options.threshold_split}' pairs to choose the threshold on: {ways}"
        )
    return _read_shards(folder, options.threshold_split, options, record)


def note_shared(scored: PairSet, choosing: PairSet) -> str:
    """What a report has to say where some scored pairs are among those that choose the threshold; empty where none is."""
    return protocols.note_shared(scored.keys(), choosing.keys())


def _read_shards(folder: str, split: str, options: EvaluateOptions, record: ModelRecord) -> PairSet:
    """The pairs of a split, where its images are such as the model was trained on, or the flags say that they are meant."""
    found = manifest.read(folder)
    held = found.preprocessing
    if held is None or not _is_meant(options, held):
        advice = f"give shards that were converted as the training shards, or confirm these by {_to_confirm(found)}"
        model_record.check_images(record, options.workdir, held, folder, advice)
    return read_shard_pairs(folder, split)


def _to_confirm(found: manifest.Manifest) -> str:
    """The flags that say of a data set's images how they were stored, as `_is_meant` reads them."""
    held = found.preprocessing
    crop = next((line for line in found.flags.splitlines() if line.startswith("--crop=")), None)
    if held is None or held.boxes is None or crop is None:
        return str(held)
    return f"{shlex.quote(crop)} --store_size={held.store_size}"


def _is_meant(options: EvaluateOptions, held: Preprocessing) -> bool:
    """Whether --crop and --store_size name what was done to these images; the content of a CSV of boxes is not compared."""
    if options.crop is None:
        return False
    given = Preprocessing.from_flags(options.crop, options.store_size, held.jpeg_quality)
    return given.same_crop(held) and given.store_size == held.store_size


def _read_list(path: str, options: EvaluateOptions, record: ModelRecord, is_csv: bool) -> PairSet:
    crop, preprocessing = images.parse_crop(options.crop), record.preprocessing or Preprocessing()
    return pairs_module.read_listed_pairs(
        path,
        options.images,
        pairs_module.storage_rules(crop, options.store_size, preprocessing.jpeg_quality),
        is_csv=is_csv,
        allow_missing=options.allow_missing,
        boxes=crop.boxes,
        identity_level=options.identity_level,
        merge_names=options.merge_names,
    )


def leave_out_broken(
    pairs: PairSet, found: Description, allowed: bool, *, in_list: bool
) -> PairSet:
    """The pairs whose images are all sound; `in_list` where a list names them, else they are in shards.

    Raises:
      UserError: there are others and pairs may not be lost, or no pair is left.
    """
    if not found.broken:
        return pairs
    broken = np.array(list(found.broken))
    whole = ~(np.isin(pairs.first, broken) | np.isin(pairs.second, broken))
    reasons = {
        pairs.images.paths[number]: reason for number, reason in sorted(found.broken.items())
    }
    mend = "mend --images" if in_list else "convert again with --overwrite"
    said = pairs_module.require_usable(
        reasons, int(np.sum(~whole)), len(pairs), pairs.name, allowed, mend
    )
    return pairs.select(whole, said)
