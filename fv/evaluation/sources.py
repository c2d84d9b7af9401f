"""From options to pairs: those that are scored, and those that the threshold is chosen on."""

import dataclasses

import numpy as np

from fv import manifest
from fv.errors import UserError
from fv.evaluation import listed_pairs, protocols, shard_pairs
from fv.evaluation.describing import Description
from fv.evaluation.options import EvaluateOptions
from fv.evaluation.pair_set import PairSet


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


def read(options: EvaluateOptions) -> Task:
    """Reads the pairs of `check`ed options.

    Raises:
      UserError: shards or lists cannot be used, or nothing says what to choose the threshold on.
    """
    scored = _read_scored(options)
    choosing = _read_choosing(options)
    if choosing:
        return Task(scored, choosing, f"chosen on {choosing.name}")
    if options.folds:
        scored = protocols.make_folds(scored, options.folds, options.seed)
    folds = int(scored.folds.max()) + 1
    if folds == 1:
        raise UserError(
            f"{scored.name} has no folds, and its threshold may not come from itself: give --folds, "
            "--threshold_pairs_file, --threshold_pairs_csv or --threshold_tfrecords"
        )
    return Task(scored, None, f"chosen on the other of {folds} folds")


def _read_scored(options: EvaluateOptions) -> PairSet:
    if options.pairs_list:
        return _read_list(options.pairs_list, options, is_csv=options.pairs_csv is not None)
    return shard_pairs.read(options.tfrecords, options.split)


def _read_choosing(options: EvaluateOptions) -> PairSet | None:
    if options.folds:
        return None
    if options.threshold_list:
        return _read_list(options.threshold_list, options, is_csv=options.threshold_pairs_csv is not None)
    folder = options.threshold_tfrecords or options.tfrecords
    if folder is None:
        return None
    if not manifest.read(folder).holds(options.threshold_split):
        ways = "name shards that do by --threshold_tfrecords, or let folds of the scored people choose it by --folds=10"
        raise UserError(f"{folder} holds no '{options.threshold_split}' pairs to choose the threshold on: {ways}")
    return shard_pairs.read(folder, options.threshold_split)


def _read_list(path: str, options: EvaluateOptions, is_csv: bool) -> PairSet:
    rules = listed_pairs.rules_of(options.crop, options.store_size)
    return listed_pairs.read(path, options.images, rules, is_csv=is_csv, allow_missing=options.allow_missing)


def leave_out_broken(pairs: PairSet, found: Description, allowed: bool, *, in_list: bool) -> PairSet:
    """The pairs whose images are all sound; `in_list` where a list names them, else they are in shards.

    Raises:
      UserError: there are others and pairs may not be lost, or no pair is left.
    """
    if not found.broken:
        return pairs
    broken = np.array(list(found.broken))
    whole = ~(np.isin(pairs.first, broken) | np.isin(pairs.second, broken))
    reasons = {pairs.images.paths[number]: reason for number, reason in sorted(found.broken.items())}
    mend = "mend --images" if in_list else "convert again with --overwrite"
    said = listed_pairs.refuse_or_say(reasons, int(np.sum(~whole)), len(pairs), pairs.name, allowed, mend)
    return pairs.select(whole, said)
