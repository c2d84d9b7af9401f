"""The validation pairs of an export: where they are, and how the model scores them."""

import dataclasses
import math
import os

import numpy as np
import tensorflow as tf

from fv import files, metrics, progress, record, workdir
from fv import manifest as manifests
from fv.errors import UserError
from fv.evaluation import pair_sources
from fv.model.model_record import ModelRecord
from fv.model.siamese import PairScorer, Siamese
from fv.pipeline import damage, input_pipeline, tensorflow_decoder
from fv.pipeline.input_pipeline import PairSource

# The threshold of an export, and how often it is wrong.

BEST_ACCURACY = "best accuracy"


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A threshold with the pairs behind it.

    Attributes:
      threshold: similarity from which on two images are the same person.
      chosen_by: how it was chosen, in words.
      far: share of impostor pairs accepted, and the counts behind it.
      frr: share of genuine pairs rejected, and the counts behind it.
      split: the pairs that far and frr were measured on; the threshold was chosen on them too, unless it was given.
    """

    threshold: float
    chosen_by: str
    far: float
    impostors_accepted: int
    impostors: int
    frr: float
    genuine_rejected: int
    genuine: int
    split: str


def choose_threshold(
    similarities: np.ndarray,
    labels: np.ndarray,
    split: str,
    *,
    threshold: float | None,
    target_far: float | None,
) -> OperatingPoint:
    """Chooses a threshold on labelled pairs, or measures a given one.

    Args:
      similarities: float32 [n].
      labels: int [n], 1 for a genuine pair.
      split: what the pairs are called.
      threshold: the user's, if any.
      target_far: largest share of impostor pairs accepted, if any; else the threshold has the best accuracy.

    Raises:
      UserError: the pairs are too few for that FAR.
    """
    curve = metrics.roc(similarities, labels)
    if threshold is not None:
        chosen_by = "given by --threshold"
    elif target_far is not None:
        threshold, chosen_by = (
            _at_far(curve, target_far, split),
            f"most genuine pairs at a FAR of {target_far:g}",
        )
    else:
        threshold, chosen_by = curve.best_threshold(), BEST_ACCURACY
    same = np.asarray(similarities) >= np.float32(threshold)
    genuine = np.asarray(labels) == 1
    accepted, rejected = int(np.sum(same & ~genuine)), int(np.sum(~same & genuine))
    far, frr = accepted / curve.impostors, rejected / curve.genuine
    return OperatingPoint(
        threshold, chosen_by, far, accepted, curve.impostors, frr, rejected, curve.genuine, split
    )


def _at_far(curve: metrics.Roc, target_far: float, split: str) -> float:
    point = curve.tar_at_far(target_far)
    if point.threshold is None:
        fewest = f"{split} has {point.impostors:,} impostor pairs, which can show no rate below {1 / point.impostors:.2g}"
        raise UserError(
            f"--target_far={target_far:g} cannot be measured: {fewest}; give --target_far={_round_up(1 / point.impostors)} "
            "or higher, or name shards with more val pairs by --tfrecords"
        )
    return point.threshold


def _round_up(rate: float) -> str:
    """A rate to two digits that is no lower."""
    unit = 10.0 ** (math.floor(math.log10(rate)) - 1)
    text = f"{rate:.2g}"
    return text if float(text) >= rate else f"{float(text) + unit:.2g}"


_BATCH_SIZE = 64  # pairs


@dataclasses.dataclass(frozen=True)
class Measured:
    """What fv.evaluate left in a workdir, or nothing, and where the pairs are that an export is calibrated on.

    Attributes:
      figures: metrics.json, None where there is none.
      tfrecords: folder of shards.
      split: their split.
    """

    figures: dict | None
    tfrecords: str
    split: str


def find_held_out(
    folder: str, step: int, tfrecords: str | None, checkpoint: str = workdir.LAST
) -> Measured:
    """Finds what an export of a workdir's checkpoint, of that step, needs.

    Args:
      folder: the workdir.
      step: of its checkpoint.
      tfrecords: folder of shards with a validation split; the one that fv.evaluate read, if None.
      checkpoint: which one it is, `workdir.LAST` or `workdir.BEST`.

    Raises:
      UserError: fv.evaluate measured another checkpoint, or it did not run and no folder is given.
    """
    path = os.path.join(folder, workdir.METRICS)
    figures = files.load_json(path) if os.path.exists(path) else None
    if figures and not _is_of_shards(figures):
        figures = None
    if figures is None and tfrecords is None:
        lacking = f"{folder} holds no {workdir.METRICS} that says where validation pairs are"
        raise UserError(
            f"{lacking}: run fv.evaluate first, or give --tfrecords, in either case shards with val pairs"
        )
    if figures is None:
        return Measured(None, tfrecords, "val")
    if figures.get("step") != step:
        raise UserError(
            f"{path} is of step {figures.get('step')}, the {checkpoint} checkpoint of step {step}: run fv.evaluate again "
            f"with --checkpoint={checkpoint}"
        )
    source = tfrecords or figures.get("threshold_tfrecords") or figures["tfrecords"]
    return Measured(figures, source, figures.get("threshold_split", "val"))


def require_others(found: Measured) -> None:
    """Checks that an export is not calibrated on the pairs whose figures its card shows.

    Raises:
      UserError: it would be.
    """
    scored = (found.figures or {}).get("pairs_sha256")
    if scored and pair_sources.read_shard_pairs(found.tfrecords, found.split).digest() == scored:
        raise UserError(
            f"--tfrecords={found.tfrecords} holds as its {found.split} split the pairs that fv.evaluate scored, and figures "
            "on the pairs that choose the threshold mean nothing: give other shards"
        )


def _is_of_shards(figures: dict) -> bool:
    """Whether pairs of shards were scored and chose the threshold; of a list, or of folds, an export knows nothing."""
    splits = (figures.get("split", "test"), figures.get("threshold_split", "val"))
    return bool(figures.get("tfrecords")) and set(splits) <= set(manifests.SPLITS)


def validation_source(found: Measured, held: ModelRecord) -> PairSource:
    """The validation pairs.

    Raises:
      UserError: no such shards, or none with that split.
    """
    try:
        manifest = manifests.load(found.tfrecords)
        pixels = (held.options.image_size, held.options.crop_fraction)
        return PairSource.of(found.tfrecords, manifest, found.split, *pixels)
    except UserError as error:
        raise UserError(
            f"{error} (the export is calibrated on these pairs; --tfrecords names shards that hold others)"
        ) from error


def score_pairs(pairs: PairSource, model: Siamese) -> tuple[np.ndarray, np.ndarray]:
    """Similarities float32 [n] and labels int32 [n] of the pairs, in the shards' order."""
    batches = input_pipeline.evaluation_batches(pairs, batch_size=_BATCH_SIZE)
    steps = input_pipeline.evaluation_steps(pairs, _BATCH_SIZE)
    with (
        damage.report_damaged_record(pairs.folder, pairs.split.shards),
        progress.progress(steps, "calibrate", "batch") as line,
    ):
        return PairScorer(tf.distribute.get_strategy(), model).score(batches, line.update)


def first_images(pairs: PairSource, count: int) -> tuple[list[bytes], list[bytes]]:
    """The encoded images of the first `count` pairs, or of all where there are fewer."""
    paths = [os.path.join(pairs.folder, shard.name) for shard in pairs.split.shards]
    records = [
        tensorflow_decoder.parse_record(data) for data in tf.data.TFRecordDataset(paths).take(count)
    ]
    return tuple(
        [pair[name].numpy() for pair in records] for name in (record.IMAGE_A, record.IMAGE_B)
    )


def manifest_sha256(folder: str) -> str | None:
    """SHA-256 of a data set's manifest, which holds those of its shards; None where there is none."""
    path = os.path.join(folder, manifests.FILE_NAME)
    return files.sha256(path) if files.exists(path) else None
