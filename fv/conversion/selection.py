"""What to write: the sound images and the pairs of each split, sampled or listed."""

import dataclasses
from concurrent import futures

import pandas as pd

from fv.conversion import catalog, checking, csv_pairs, images, lfw_pairs, listed, pairs, splits
from fv.conversion.settings import Options
from fv.errors import UserError

_PIXELS_PER_MEGAPIXEL = 1_000_000


@dataclasses.dataclass(frozen=True)
class Selection:
    """Sound images (`path`, `identity`, `bytes`, `normalised`), and by split the pairs (`a`, `b`, `label`) and identities.

    `left_out` has the images that were not used, with columns `path` and `reason`.
    """

    images: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    identities: dict[str, tuple[str, ...]]
    left_out: pd.DataFrame


def select(chosen: Options, found: pd.DataFrame, odd: pd.DataFrame, scratch: str, executor: futures.Executor) -> Selection:
    """Checks the images and chooses the pairs.

    Args:
      chosen: the options.
      found: images of the catalog.
      odd: what the catalog left out.
      scratch: an empty folder for images that have to be written anew.
      executor: pool of `chosen.processes` processes.

    Raises:
      UserError: the images, the list of pairs or the number of pairs asked for cannot be used.
    """
    if chosen.pairs_list:
        return _listed(chosen, found, odd, scratch, executor)
    if chosen.strict and len(odd):
        raise UserError(f"{odd['path'].iloc[0]}: {odd['reason'].iloc[0]} (--strict stops here; without it it is left out)")
    return _sampled(chosen, found, odd, scratch, executor)


def _sampled(chosen: Options, found: pd.DataFrame, odd: pd.DataFrame, scratch: str, executor: futures.Executor) -> Selection:
    shares = splits.fractions(chosen.val_fraction, chosen.test_fraction)
    sound, bad = _check(chosen, found, scratch, executor, chosen.strict)
    left_out = pd.concat([odd, bad]).sort_values("path", ignore_index=True)
    catalog.require_identities(sound, left_out, chosen.images)
    names = sound["identity"].unique().sort_values()
    by_identity = pd.Series(splits.assign(names, shares, chosen.seed), list(names), dtype=object)
    identities = {name: tuple(by_identity.index[by_identity == name]) for name in shares}
    splits.require_two_identities({name: len(members) for name, members in identities.items()})
    split = pd.Categorical(by_identity.reindex(sound["identity"].astype(object)), categories=list(shares))
    sound = sound.assign(split=split)
    quotas = pairs.plan_quotas(sound, chosen.pairs, chosen.max_pairs_per_identity)
    tables = pairs.sample_pairs(sound, quotas, chosen.pairs, chosen.max_pairs_per_identity, chosen.seed)
    return Selection(sound, tables, identities, left_out)


def _listed(chosen: Options, found: pd.DataFrame, odd: pd.DataFrame, scratch: str, executor: futures.Executor) -> Selection:
    source = chosen.pairs_list
    table = lfw_pairs.read(source, found) if chosen.pairs_file else csv_pairs.read(source)
    used = listed.select_images(table, found, odd, source)
    sound, bad = _check(chosen, used, scratch, executor, strict=False)  # the refusal names the list's line instead
    indices = listed.to_indices(table, sound, bad, source)
    identities = tuple(sorted(sound["identity"].unique()))
    return Selection(sound, {chosen.pairs_split: indices}, {chosen.pairs_split: identities}, bad)


def _check(
    chosen: Options, table: pd.DataFrame, scratch: str, executor: futures.Executor, strict: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    rules = images.Rules(int(chosen.max_megapixels * _PIXELS_PER_MEGAPIXEL), chosen.jpeg_quality)
    return checking.check_images(table, chosen.images, scratch, rules, executor, chosen.processes, strict)
