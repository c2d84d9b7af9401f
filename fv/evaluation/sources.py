"""From options to pairs: those that are scored, and those that the threshold is chosen on."""

import dataclasses

import numpy as np

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
      UserError: shards or lists cannot be used, nothing says what to choose the threshold on, or it would be chosen on the
        very pairs that are scored, wherever and however they are written.
    """
    scored = _read_scored(options)
    choosing = _read_choosing(options)
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
    return shard_pairs.read(folder, options.threshold_split) if folder else None


def _read_list(path: str, options: EvaluateOptions, is_csv: bool) -> PairSet:
    rules = listed_pairs.rules_of(options.crop, options.store_size)
    return listed_pairs.read(
        path,
        options.images,
        rules,
        is_csv=is_csv,
        allow_missing=options.allow_missing,
        identity_level=options.identity_level,
        merge_names=options.merge_names,
    )


def note_shared(scored: PairSet, choosing: PairSet) -> str:
    """What a report has to say where some scored pairs are among those that choose the threshold; empty where none is."""
    return protocols.note_shared(scored.keys(), choosing.keys())


def leave_out_broken(pairs: PairSet, found: Description, allowed: bool) -> PairSet:
    """The pairs whose images are all sound.

    Raises:
      UserError: there are others and pairs may not be lost, or no pair is left.
    """
    if not found.broken:
        return pairs
    broken = np.array(list(found.broken))
    whole = ~(np.isin(pairs.first, broken) | np.isin(pairs.second, broken))
    reasons = {pairs.images.paths[number]: reason for number, reason in sorted(found.broken.items())}
    said = listed_pairs.refuse_or_say(reasons, int(np.sum(~whole)), len(pairs), pairs.name, allowed)
    return pairs.select(whole, said)
