"""Pairs that a file lists over a folder of images: LFW's format with its folds, or a CSV."""

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd

from fv import files
from fv.conversion import catalog, crops, csv_pairs, identities, images, lfw_pairs, listed, settings
from fv.conversion.formats import BadImage
from fv.conversion.images import Rules
from fv.errors import UserError
from fv.evaluation.pair_set import Images, PairSet

_NAMED = 5  # images that a message names
Boxes = Mapping[str, crops.Box]  # by path below the folder of images

_CONVERTER = settings.Options(images="")  # its defaults


def read(
    path: str,
    folder: str,
    rules: Rules,
    *,
    is_csv: bool,
    allow_missing: bool,
    boxes: Boxes | None = None,
    identity_level: int | None = None,
    merge_names: bool | None = None,
) -> PairSet:
    """Reads a list of pairs.

    Args:
      path: a file in LFW's format, or a CSV with columns image_a, image_b and label.
      folder: of images, one folder per person.
      rules: what becomes of an image before it is preprocessed, as in the converter.
      is_csv: whether the list is a CSV; its pairs are one fold.
      allow_missing: go on without the pairs of images that are not there.
      boxes: by path, the part of each image that is used; an image without one counts as broken.
      identity_level: which folder of an image's path names the person; None for the first, if that is plausible.
      merge_names: whether names that differ only in how they are written are one person's; None to refuse them.

    Raises:
      UserError: not such a list or folder, an image that is not there, labels that the folders contradict, or a pair that is
        listed twice or is one image twice, or folders or names that cannot be people's.
    """
    level = identity_level or 1
    found, odd, _, naming = catalog.scan(folder, level, bool(merge_names))
    table = csv_pairs.read(path, folder) if is_csv else lfw_pairs.read(path, found, level)
    table = listed.match_paths(table, set(found["path"]))
    doubts = identities.check(
        listed.restrict(found, table), identity_level, merge_names, f"--images={folder}"
    )
    folds = 1 if is_csv else lfw_pairs.count_folds(path)
    fold = np.arange(len(table)) * folds // len(table)
    odd = pd.concat([odd, catalog.unread(pd.concat([table["a"], table["b"]]))])
    listed.require_agreement(table, path, naming.identity_of)
    listed.require_once(table, path)
    whole, lost = _split_missing(table, found, odd, path, allow_missing)
    said = "; ".join(filter(None, (lost, *map(str, doubts))))
    return _to_pairs(
        os.path.basename(path), table[whole], fold[whole], found, (folder, rules, boxes), said
    )


def _split_missing(
    table: pd.DataFrame, found: pd.DataFrame, odd: pd.DataFrame, path: str, allow_missing: bool
) -> tuple[np.ndarray, str]:
    """Which pairs have both images, bool [n], and what is said of the others."""
    known = set(found["path"])
    ends = pd.unique(table[["a", "b"]].to_numpy(object).ravel())
    missing = [image for image in ends if image not in known]
    if not missing:
        return np.ones(len(table), bool), ""
    whole = ~(table["a"].isin(missing) | table["b"].isin(missing)).to_numpy()
    line = table["line"].iloc[int(np.argmin(whole))]
    reasons = dict(zip(odd["path"], odd["reason"], strict=True))
    named = {image: reasons.get(image, "") for image in missing}
    named |= listed.suggest(
        [image for image, reason in named.items() if not reason][:_NAMED], known
    )
    return whole, refuse_or_say(
        named, int(np.sum(~whole)), len(table), f"{path}, line {line}", allow_missing
    )


def refuse_or_say(
    reasons: dict[str, str],
    pairs: int,
    of: int,
    source: str,
    allowed: bool,
    mend: str = "mend --images",
) -> str:
    """What is said of images that cannot be used, named and counted.

    Args:
      reasons: by image, why it cannot; empty where it is not there.
      pairs: how many pairs are lost by them.
      of: how many there are.
      source: the list.
      allowed: whether pairs may be lost.
      mend: how the user gets whole images.

    Raises:
      UserError: they may not, or no pair is left.
    """
    names = [f"{image} ({reason})" if reason else image for image, reason in reasons.items()]
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    said = f"{source}: {pairs:,} of {of:,} pairs lack one of {len(names):,} images that are missing or broken: {shown}"
    if pairs == of:
        raise UserError(f"{said}; no pair is left: {mend}")
    if not allowed:
        raise UserError(
            f"{said}; the figures would no longer be the protocol's: {mend}, or give --allow_missing"
        )
    return f"{said}; these pairs were left out, so the figures are not quite the protocol's"


def _to_pairs(
    name: str,
    table: pd.DataFrame,
    fold: np.ndarray,
    found: pd.DataFrame,
    held: tuple[str, Rules, Boxes | None],
    lost: str,
) -> PairSet:
    paths, numbers = np.unique(table[["a", "b"]].to_numpy(str), return_inverse=True)
    first, second = numbers.reshape(-1, 2).T
    owners = found.set_index("path")["identity"].astype(str).reindex(paths).tolist()
    counts = found["identity"].value_counts()
    of_identity = np.array([counts[owner] for owner in owners])
    folder, rules, boxes = held

    def load(number: int) -> bytes:
        box = boxes.get(paths[number]) if boxes is not None else None
        if boxes is not None and box is None:
            raise BadImage("no box in the CSV of --crop")
        return images.load(files.read_bytes(os.path.join(folder, paths[number])), rules, box).stored

    shown = Images(paths.tolist(), owners, of_identity, load)
    return PairSet(name, shown, first, second, table["label"].to_numpy(np.int64), fold, lost)


def rules_of(
    crop: crops.Crop, store_size: int | None, jpeg_quality: int = _CONVERTER.jpeg_quality
) -> Rules:
    """What becomes of an image before it is preprocessed, by the converter's flags of the same names.

    Raises:
      UserError: there is a `crop` and no `store_size`.
    """
    if crop != crops.Crop() and store_size is None:
        given = "a CSV of boxes" if crop.boxes is not None else f"{crop.fraction:g}"
        raise UserError(
            f"--crop={given} cuts images as the converter stores them small: give --store_size too"
        )
    return Rules(_CONVERTER.max_pixels, jpeg_quality, store_size, crop.fraction)
