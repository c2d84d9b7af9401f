"""The held-out pairs of an export: where they are, and the threshold that they choose."""

import dataclasses
import math
import os

import numpy as np

from fv import files, manifest, metrics, workdir
from fv.errors import UserError
from fv.evaluation import pair_sources
from fv.evaluation.pairs import PairSet
from fv.model.siamese import Siamese

_PAIRS_AT_ONCE = 4096  # bounds memory


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The pairs that an export is calibrated on, and the evaluator's figures.

    Attributes:
      figures: metrics.json of the workdir; None if there is none, or it is not of shards.
      tfrecords: folder of the shards that hold the pairs.
      split: the split of the pairs.
    """

    figures: dict | None
    tfrecords: str
    split: str


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A threshold with its error rates.

    Attributes:
      threshold: similarity from which on two images show the same person.
      chosen_by: how it was chosen, in words.
      far: share of impostor pairs that are accepted, with its counts.
      frr: share of genuine pairs that are rejected, with its counts.
      split: the pairs that far and frr were measured on. They chose the threshold too, unless the
        user gave it.
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


def find_held_out(folder: str, step: int, tfrecords: str | None, checkpoint: str) -> HeldOut:
    """Finds the held-out pairs for a checkpoint.

    Args:
      folder: the workdir.
      step: of the checkpoint.
      tfrecords: folder of shards with a validation split; None for the one fv.evaluate read.
      checkpoint: which one it is, last or best, for messages.

    Raises:
      UserError: fv.evaluate measured another checkpoint, or it did not run and there is no folder.
    """
    path = os.path.join(folder, workdir.METRICS)
    figures = files.load_json(path) if os.path.exists(path) else None
    if figures is None or not _is_of_shards(figures):
        if tfrecords is None:
            raise UserError(
                f"{folder} holds no {workdir.METRICS} that says where validation pairs are: run "
                "fv.evaluate first, or give --tfrecords, in either case shards with val pairs"
            )
        return HeldOut(None, tfrecords, "val")
    if figures.get("step") != step:
        raise UserError(
            f"{path} is of step {figures.get('step')}, the {checkpoint} checkpoint of step {step}: "
            f"run fv.evaluate again with --checkpoint={checkpoint}"
        )
    source = tfrecords or figures.get("threshold_tfrecords") or figures["tfrecords"]
    return HeldOut(figures, source, figures.get("threshold_split", "val"))


def _is_of_shards(figures: dict) -> bool:
    """Whether shards were scored and chose the threshold; an export cannot use lists or folds."""
    splits = (figures.get("split", "test"), figures.get("threshold_split", "val"))
    return bool(figures.get("tfrecords")) and set(splits) <= set(manifest.SPLITS)


def read_pairs(held_out: HeldOut) -> PairSet:
    """Reads the held-out pairs; memory holds no image.

    Raises:
      UserError: there are no such shards, or none of that split.
    """
    try:
        return pair_sources.read_shard_pairs(held_out.tfrecords, held_out.split)
    except UserError as error:
        raise UserError(
            f"{error} (the export is calibrated on these pairs; --tfrecords names shards that hold "
            "others)"
        ) from error


def require_unscored(held_out: HeldOut, pairs: PairSet) -> None:
    """Checks that the held-out pairs are not those whose figures the model card shows.

    Raises:
      UserError: they are.
    """
    if (held_out.figures or {}).get("pairs_sha256") == pairs.digest():
        raise UserError(
            f"--tfrecords={held_out.tfrecords} holds as its {held_out.split} split the pairs that "
            "fv.evaluate scored, and figures on the pairs that choose the threshold mean nothing: "
            "give other shards"
        )


def score_pairs(pairs: PairSet, embeddings: np.ndarray, model: Siamese) -> np.ndarray:
    """Similarities of pairs, float32 [n], by the embeddings of their images, float32 [m, d]."""
    ends = np.stack([pairs.first, pairs.second])
    parts = np.array_split(ends, math.ceil(len(pairs) / _PAIRS_AT_ONCE), axis=1)
    found = [model.head.similarity(embeddings[a], embeddings[b]).numpy() for a, b in parts]
    return np.concatenate(found)


def choose_threshold(
    similarities: np.ndarray,
    labels: np.ndarray,
    split: str,
    *,
    threshold: float | None,
    target_far: float | None,
    best: float | None = None,
) -> OperatingPoint:
    """Chooses a threshold on labelled pairs, or measures a given one.

    Args:
      similarities: float32 [n].
      labels: int [n], 1 for a genuine pair.
      split: what the pairs are called.
      threshold: a given threshold, if any.
      target_far: the largest share of impostor pairs accepted, if any. With neither, the threshold
        with the best accuracy is chosen.
      best: the threshold with the best accuracy as fv.evaluate chose it on these pairs; found anew
        if None.

    Raises:
      UserError: the pairs are too few for that FAR.
    """
    curve = metrics.roc(similarities, labels)
    if threshold is not None:
        chosen_by = "given by --threshold"
    elif target_far is not None:
        threshold = _threshold_at_far(curve, target_far, split)
        chosen_by = f"most genuine pairs at a FAR of {target_far:g}"
    else:
        threshold, chosen_by = curve.best_threshold() if best is None else best, "best accuracy"
    same = np.asarray(similarities) >= np.float32(threshold)
    genuine = np.asarray(labels) == 1
    accepted, rejected = int(np.sum(same & ~genuine)), int(np.sum(~same & genuine))
    far, frr = accepted / curve.impostors, rejected / curve.genuine
    return OperatingPoint(
        threshold, chosen_by, far, accepted, curve.impostors, frr, rejected, curve.genuine, split
    )


def _threshold_at_far(curve: metrics.Roc, target_far: float, split: str) -> float:
    point = curve.tar_at_far(target_far)
    if point.threshold is None:
        smallest = 1 / point.impostors
        # Two digits, rounded up: a rate that is advised must be measurable.
        unit = 10.0 ** (math.floor(math.log10(smallest)) - 1)
        advised = f"{smallest:.2g}"
        if float(advised) < smallest:
            advised = f"{float(advised) + unit:.2g}"
        raise UserError(
            f"--target_far={target_far:g} cannot be measured: {split} has {point.impostors:,} "
            f"impostor pairs, which can show no rate below {smallest:.2g}; give "
            f"--target_far={advised} or higher, or name shards with more val pairs by --tfrecords"
        )
    return point.threshold
