"""Pairs that a file lists over a folder of images: LFW's format with its folds, or a CSV."""

import os

import numpy as np
import pandas as pd

from fv import files
from fv.conversion import catalog, crops, csv_pairs, images, lfw_pairs, listed, settings
from fv.conversion.images import Rules
from fv.errors import UserError
from fv.evaluation.pair_set import Images, PairSet

_NAMED = 5  # images that a message names
_CONVERTER = settings.Options(images="")  # its defaults


def read(path: str, folder: str, rules: Rules, *, is_csv: bool, allow_missing: bool) -> PairSet:
    """Reads a list of pairs.

    Args:
      path: a file in LFW's format, or a CSV with columns image_a, image_b and label.
      folder: of images, one folder per person.
      rules: what becomes of an image before it is preprocessed, as in the converter.
      is_csv: whether the list is a CSV; its pairs are one fold.
      allow_missing: go on without the pairs of images that are not there.

    Raises:
      UserError: not such a list or folder, an image that is not there, labels that the folders contradict, or a pair that is
        listed twice or is one image twice.
    """
    found, odd = catalog.scan(folder)
    table = csv_pairs.read(path) if is_csv else lfw_pairs.read(path, found)
    folds = 1 if is_csv else lfw_pairs.count_folds(path)
    fold = np.arange(len(table)) * folds // len(table)
    listed.require_agreement(table, path)
    listed.require_once(table, path)
    whole, lost = _split_missing(table, found, odd, path, allow_missing)
    return _to_pairs(os.path.basename(path), table[whole], fold[whole], found, (folder, rules), lost)


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
    reasons = dict(zip(odd["path"], odd["reason"], strict=True))
    named = {image: reasons.get(image, "") for image in missing}
    return whole, refuse_or_say(named, int(np.sum(~whole)), len(table), path, allow_missing)


def refuse_or_say(
    reasons: dict[str, str], pairs: int, of: int, source: str, allowed: bool, mend: str = "mend --images"
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
        raise UserError(f"{said}; the figures would no longer be the protocol's: {mend}, or give --allow_missing")
    return f"{said}; these pairs were left out, so the figures are not quite the protocol's"


def _to_pairs(
    name: str, table: pd.DataFrame, fold: np.ndarray, found: pd.DataFrame, held: tuple[str, Rules], lost: str
) -> PairSet:
    paths, numbers = np.unique(table[["a", "b"]].to_numpy(str), return_inverse=True)
    first, second = numbers.reshape(-1, 2).T
    identities = [catalog.identity_of(path) for path in paths]
    counts = found["identity"].value_counts()
    of_identity = np.array([counts[identity] for identity in identities])
    folder, rules = held

    def load(number: int) -> bytes:
        return images.load(files.read_bytes(os.path.join(folder, paths[number])), rules).stored

    shown = Images(paths.tolist(), identities, of_identity, load)
    return PairSet(name, shown, first, second, table["label"].to_numpy(np.int64), fold, lost)


def rules_of(crop: str, store_size: int | None) -> Rules:
    """What becomes of an image before it is preprocessed, by the converter's flags of the same names.

    Raises:
      UserError: `crop` is neither none nor a number in (0, 1], or is given without `store_size`.
    """
    parsed = crops.parse(crop)
    if parsed.boxes is not None:
        raise UserError(f"--crop={crop} gives boxes: an evaluation takes none or the centre square's side alone")
    if parsed.fraction is not None and store_size is None:
        raise UserError(f"--crop={crop} cuts images as the converter stores them small: give --store_size too")
    return Rules(_CONVERTER.max_pixels, _CONVERTER.jpeg_quality, store_size, parsed.fraction)
