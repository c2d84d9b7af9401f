"""The pairs of an evaluation: those to score, and those to choose the threshold on.

Pairs come from a split of shards or from a list (`fv.evaluation.pairs`).
"""

import array
import collections
import dataclasses
import functools
import shlex
from collections.abc import Mapping

import numpy as np

from fv import detection, manifest, progress, workers
from fv.conversion import faces, storage
from fv.conversion.datasets import Place
from fv.errors import UserError
from fv.evaluation import options as options_module
from fv.evaluation import pairs, protocols
from fv.evaluation.options import EvaluateOptions
from fv.evaluation.pairs import FindBoxes, Images, PairSet
from fv.model import model_record
from fv.model.model_record import ModelRecord
from fv.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class EvaluationPairs:
    """The pairs of an evaluation.

    Attributes:
      scored: the pairs that the figures are of.
      choosing: the pairs that threshold and probability are chosen on; None if the folds of
        `scored` choose for each other.
      threshold_rule: how the threshold is chosen, in words.
    """

    scored: PairSet
    choosing: PairSet | None
    threshold_rule: str


def read_pairs(options: EvaluateOptions, trained: ModelRecord) -> EvaluationPairs:
    """Reads the pairs of checked options that a model is scored on.

    Raises:
      UserError: shards or lists cannot be used or do not fit the model, no pairs are given to
        choose the threshold on, or they are the scored pairs.
    """
    if options.pairs_list:
        is_csv = bool(options.pairs_csv)
        is_bin = bool(options.pairs_bin)
        scored = _read_list(options.pairs_list, options, trained, is_csv=is_csv, is_bin=is_bin)
    else:
        assert options.tfrecords is not None
        scored = _read_shards(options.tfrecords, options.split, options, trained)
    choosing = _read_choosing(options, trained)
    if choosing:
        if choosing.digest() == scored.digest():
            raise UserError(
                f"{choosing.name} holds the same pairs as {scored.name}, which is scored: choose "
                "the threshold on others, or by --folds"
            )
        return EvaluationPairs(scored, choosing, f"chosen on {choosing.name}")
    if options.folds and scored.named:
        scored = protocols.make_folds(scored, options.folds, options.seed)
    folds = int(scored.folds.max()) + 1
    if folds == 1:
        raise UserError(
            f"{scored.name} has no folds, and its threshold may not come from itself: give "
            "--folds, --threshold_pairs or --threshold_tfrecords"
        )
    return EvaluationPairs(scored, None, f"chosen on the other of {folds} folds")


def with_training_crop(options: EvaluateOptions, preprocessing: Preprocessing) -> EvaluateOptions:
    """Fills in --crop, --store_size and --detector of --images from the training images.

    Raises:
      UserError: the training images were cut to boxes or aligned, and it is not said how to cut
        these.
    """
    made = preprocessing.alignment
    if options.faces.given and made is None:
        raise UserError(
            f"{options.workdir} was not trained on aligned faces: leave out {options.faces.source}"
        )
    crop = options.crop
    bins = [options.pairs_bin] if options.pairs_bin else []
    if options.threshold_pairs and options_module.is_bin(options.threshold_pairs):
        bins.append(options.threshold_pairs)
    if bins and (options.faces.given or (made and crop is None)):
        raise UserError(
            f"faces are not looked for in a verification set such as {bins[0]}: give --crop=none, "
            "without --face_points and --detector, if its images are aligned already"
        )
    if made and crop is None and not options.faces.given:
        if made.detector.split()[0] != detection.MTCNN:
            raise UserError(
                f"{options.workdir} was trained on faces aligned by {made.detector}: give "
                f"--face_points or --detector for the images of {options.images}, or --crop=none "
                "if they are aligned already"
            )
        chosen = dataclasses.replace(options.faces, detector=detection.MTCNN)
        options = dataclasses.replace(options, faces=chosen)
    if crop is None and preprocessing.boxes:
        raise UserError(
            f"{options.workdir} was trained on images cut to boxes: give --crop=CSV with the boxes "
            f"of {options.images or 'the images'}, or --crop=none if they are cut already"
        )
    if crop is None:
        fraction = preprocessing.crop_fraction
        crop = storage.WHOLE if fraction is None else str(fraction)
    return dataclasses.replace(
        options, crop=crop, store_size=options.store_size or preprocessing.store_size
    )


def leave_out_broken(
    given: PairSet, broken: dict[int, str], allowed: bool, *, in_list: bool
) -> PairSet:
    """Leaves out the pairs of broken images.

    Args:
      given: the pairs.
      broken: why an image cannot be decoded, by its index.
      allowed: whether pairs may be left out.
      in_list: whether the pairs come from a list, else from shards.

    Raises:
      UserError: pairs may not be left out, or no pair is left.
    """
    if not broken:
        return given
    numbers = np.array(list(broken))
    whole = ~(np.isin(given.first, numbers) | np.isin(given.second, numbers))
    reasons = {given.images.paths[number]: reason for number, reason in sorted(broken.items())}
    remedy = "mend --images" if in_list else "convert again with --overwrite"
    remedy = "fetch the file again" if options_module.is_bin(given.name) else remedy
    note = pairs.note_missing(reasons, whole, given.name, allowed, remedy)
    return given.select(whole, note)


def _read_choosing(options: EvaluateOptions, trained: ModelRecord) -> PairSet | None:
    if options.folds:
        return None
    path = options.threshold_pairs
    if path:
        is_csv, is_bin = path.lower().endswith(".csv"), options_module.is_bin(path)
        return _read_list(path, options, trained, is_csv=is_csv, is_bin=is_bin)
    folder, split = options.threshold_tfrecords or options.tfrecords, options.threshold_split
    if folder is None:
        return None
    if not manifest.read(folder).holds(split):
        raise UserError(
            f"{folder} holds no '{split}' pairs to choose the threshold on: name shards that do by "
            "--threshold_tfrecords, or let folds of the scored people choose it by --folds=10"
        )
    return _read_shards(folder, split, options, trained)


def _read_list(
    path: str, options: EvaluateOptions, trained: ModelRecord, *, is_csv: bool, is_bin: bool
) -> PairSet:
    rules, boxes = choose_storage(options, trained.preprocessing)
    if is_bin:
        if boxes is not None:
            raise UserError(
                f"--crop={options.crop} has boxes by name, and the images of {path} have none: "
                "give --crop=none if they are cut already"
            )
        return pairs.read_verification_set(path, rules, options.folds)
    assert options.images is not None
    return pairs.read_listed_pairs(
        path,
        options.images,
        rules,
        is_csv=is_csv,
        allow_missing=options.allow_missing,
        boxes=boxes,
        identity_level=options.identity_level,
        merge_names=options.merge_names,
    )


def choose_storage(
    options: EvaluateOptions, preprocessing: Preprocessing
) -> tuple[storage.StorageRules, FindBoxes]:
    """Returns how --images are stored before preprocessing, and what part of each.

    Args:
      options: from `with_training_crop`.
      preprocessing: what was done to the training images.
    """
    assert options.crop is not None
    crop = storage.parse_crop(options.crop)
    folder, chosen = options.images, options.faces
    if not chosen.given:
        rules = pairs.storage_rules(crop, options.store_size, preprocessing.jpeg_quality)
        return rules, crop.boxes
    alignment = preprocessing.alignment
    assert alignment is not None and folder is not None

    most, margin = pairs.MAX_PIXELS, alignment.margin

    @functools.cache
    def read_points() -> faces.Faces:
        return faces.read_faces(chosen, margin)

    def find_faces(places: list[Place]) -> Mapping[str, storage.Part]:
        paths = [place.path for place in places]
        if chosen.face_points:  # read once, also for images that come in blocks
            return read_points().parts(paths)
        with workers.pool(workers.available_cores()) as run:
            found = faces.find_faces(chosen, margin, paths, folder, most, run, places=places)
        assert found is not None
        return found.parts(paths)

    rules = pairs.storage_rules(crop, options.store_size, preprocessing.jpeg_quality, alignment)
    return rules, find_faces


def _read_shards(
    folder: str, split: str, options: EvaluateOptions, trained: ModelRecord
) -> PairSet:
    """Reads a split whose images fit the model, or whose flags confirm that they are meant."""
    found = manifest.read(folder)
    stored = found.preprocessing
    if not _is_confirmed(options, stored):
        assert options.workdir is not None
        advice = (
            "give shards that were converted as the training shards, or confirm these by "
            f"{_confirming_flags(found)}"
        )
        model_record.check_images(trained, options.workdir, stored, folder, advice)
    return read_shard_pairs(folder, split)


def _is_confirmed(options: EvaluateOptions, stored: Preprocessing) -> bool:
    """Whether --crop and --store_size say how images were stored; boxes are not compared."""
    if options.crop is None:
        return False
    given = Preprocessing.from_flags(options.crop, options.store_size, stored.jpeg_quality)
    return given.same_crop(stored) and given.store_size == stored.store_size


def _confirming_flags(found: manifest.Manifest) -> str:
    """The flags with which `_is_confirmed` is true for a data set."""
    stored = found.preprocessing
    crop = next((line for line in found.flags.splitlines() if line.startswith("--crop=")), None)
    if stored.boxes is None or crop is None:
        return str(stored)
    return f"{shlex.quote(crop)} --store_size={stored.store_size}"


def read_shard_pairs(folder: str, split: str) -> PairSet:
    """Reads the labels, people and paths of a split in one pass; memory holds no image.

    Images with the same path are one image, and read from the first record that holds it.

    Raises:
      UserError: no such shards, or a record is damaged.
    """
    held = manifest.load(folder).split(split)
    stored: list[manifest.StoredImage] = []
    numbers: dict[str, int] = {}  # by path, of an image in `stored`
    ends, labels = array.array("q"), array.array("b")
    with progress.Progress(held.pairs, f"read {split}", "pair") as line:
        for label, pair in manifest.list_images(folder, held.shards):
            labels.append(label)
            for image in pair:
                number = numbers.setdefault(image.path, len(stored))
                if number == len(stored):
                    stored.append(image)
                ends.append(number)
            line.update()
    identities = [image.identity for image in stored]
    counts = collections.Counter(identities)
    images_of_identity = np.array([counts[name] for name in identities])
    found = Images(
        list(numbers), identities, images_of_identity, lambda number: stored[number].read()
    )
    first, second = np.array(ends, np.int64).reshape(-1, 2).T
    folds = np.zeros(len(labels), np.int64)
    return PairSet(split, found, first, second, np.array(labels, np.int64), folds)
