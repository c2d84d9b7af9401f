"""What to write: the sound images and the pairs of each split, sampled or listed."""

import dataclasses

import pandas as pd

from fv import workers
from fv.conversion import checking, datasets, identities, pair_lists, pairs
from fv.conversion import duplicates as duplicates_module
from fv.conversion import images as images_module
from fv.conversion.options import ConvertOptions
from fv.conversion.pair_sampling import Caps
from fv.errors import UserError


@dataclasses.dataclass(frozen=True)
class Selection:
    """What a conversion found and chose.

    Attributes:
      images: the images in the splits, with columns `path`, `identity`, `split` (both categorical) and
        `checking.KEPT_COLUMNS`; the index numbers them.
      tables: by split, the pairs, with columns `a`, `b` (indices of images) and `label`.
      identities: by split, the names assigned to it.
      left_out: the images that were not used, with columns `path` and `reason`.
      copies: the copies that were found among the sound images (`copies.find`).
      findings: what is doubtful about the identities (`identities.check`).
    """

    images: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    identities: dict[str, tuple[str, ...]]
    left_out: pd.DataFrame
    copies: pd.DataFrame
    findings: tuple[identities.Finding, ...] = ()


def select(
    chosen: ConvertOptions, found: pd.DataFrame, odd: pd.DataFrame, scratch: str, run: workers.Map
) -> Selection:
    """Checks the images and chooses the pairs.

    Args:
      chosen: the options.
      found: images of the catalog.
      odd: what the catalog left out.
      scratch: an empty folder for images that have to be written anew.
      run: maps a function over tasks.

    Raises:
      UserError: the images, the list of pairs or the number of pairs asked for cannot be used.
    """
    if chosen.pairs_list:
        return _listed(chosen, found, odd, scratch, run)
    if chosen.strict and len(odd):
        raise UserError(
            f"{odd['path'].iloc[0]}: {odd['reason'].iloc[0]} (--strict stops here; without it it is left out)"
        )
    return _sampled(chosen, found, odd, scratch, run)


def _sampled(
    chosen: ConvertOptions, found: pd.DataFrame, odd: pd.DataFrame, scratch: str, run: workers.Map
) -> Selection:
    findings = _check_identities(chosen, found)
    shares = pairs.split_fractions(chosen.val_fraction, chosen.test_fraction)
    crop = images_module.parse_crop(chosen.crop)
    found, boxless = images_module.require_boxes(found, crop, chosen.crop)
    checked = _check(chosen, found, crop, scratch, run, chosen.strict)
    duplicates = duplicates_module.find_copies(checked, checking.DISTANCE)
    sound, unwanted = checked.sound, boxless.iloc[:0]
    if not chosen.keep_duplicates:
        sound, unwanted = duplicates_module.drop_copies(checked, duplicates)
    left_out = pd.concat([odd, boxless, checked.refused, unwanted]).sort_values(
        "path", ignore_index=True
    )
    datasets.require_identities(sound, left_out, chosen.images)
    names = sound["identity"].unique().sort_values()
    by_identity = pd.Series(
        pairs.assign_splits(names, shares, chosen.seed), list(names), dtype=object
    )
    members = {name: tuple(by_identity.index[by_identity == name]) for name in shares}
    pairs.require_two_identities({name: len(names) for name, names in members.items()})
    sound = sound.assign(split=_categorical(by_identity, sound["identity"], list(shares)))
    wanted = pairs.Wanted(
        chosen.pairs,
        chosen.genuine_fraction,
        Caps(chosen.max_pairs_per_identity, chosen.max_pairs_per_image),
    )
    owners = sound[["identity", "split"]]
    tables = pairs.sample_pairs(owners, pairs.plan_quotas(owners, wanted), wanted, chosen.seed)
    return Selection(sound, tables, members, left_out, duplicates, findings)


def _listed(
    chosen: ConvertOptions, found: pd.DataFrame, odd: pd.DataFrame, scratch: str, run: workers.Map
) -> Selection:
    """As the list has it: copies are reported and stay, for a protocol must not change silently."""
    source, crop = chosen.pairs_list, images_module.parse_crop(chosen.crop)
    level = chosen.naming[0]
    table = (
        pair_lists.read_lfw_pairs(source, found, level)
        if chosen.pairs_file
        else pair_lists.read_csv_pairs(source, chosen.images)
    )
    table = pair_lists.match_paths(table, set(found["path"]))
    findings = _check_identities(chosen, pair_lists.restrict_to_pairs(found, table))
    odd = pd.concat([odd, datasets.describe_unread(pd.concat([table["a"], table["b"]]))])
    used = pair_lists.select_images(table, found, odd, source)
    used, boxless = images_module.require_boxes(used, crop, chosen.crop)
    checked = _check(
        chosen, used, crop, scratch, run, strict=False
    )  # the refusal names the list's line instead
    bad = pd.concat([boxless, checked.refused])
    indices = pair_lists.pairs_to_indices(table, checked.sound, bad, source)
    members = tuple(sorted(checked.sound["identity"].unique()))
    sound = checked.sound.assign(split=pd.Categorical([chosen.pairs_split] * len(checked.sound)))
    duplicates = duplicates_module.find_copies(checked, checking.DISTANCE)
    return Selection(
        sound,
        {chosen.pairs_split: indices},
        {chosen.pairs_split: members},
        bad,
        duplicates,
        findings,
    )


def _check_identities(
    chosen: ConvertOptions, found: pd.DataFrame
) -> tuple[identities.Finding, ...]:
    return identities.check(
        found, chosen.identity_level, chosen.merge_names, f"--images={chosen.images}"
    )


def _categorical(by_identity: pd.Series, identity: pd.Series, names: list[str]) -> pd.Categorical:
    """The split of each image, by way of the identities' codes: one lookup for each identity, not for each image."""
    places = pd.Categorical(by_identity.reindex(identity.cat.categories), categories=names).codes
    return pd.Categorical.from_codes(places[identity.cat.codes], categories=names)


def _check(
    chosen: ConvertOptions,
    table: pd.DataFrame,
    crop: images_module.Crop,
    scratch: str,
    run: workers.Map,
    strict: bool,
) -> checking.Checked:
    rules = images_module.Rules(
        chosen.max_pixels, chosen.jpeg_quality, chosen.store_size, crop.fraction
    )
    return checking.check_images(table, chosen.images, scratch, rules, crop, run, strict)
