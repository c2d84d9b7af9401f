"""Labelled pairs of images, wherever they come from: what is scored, and what a threshold is chosen on."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from fv import files
from fv.conversion import datasets, identities, images, options, pair_lists
from fv.conversion.formats import BadImage
from fv.conversion.images import Rules
from fv.errors import UserError

_HASH_BYTES = 8  # of an image's path
_ODD = np.uint64(0x9E3779B97F4A7C15)  # so that a pair's hash differs where one of its paths does


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """The distinct images of a set of pairs.

    Attributes:
      paths: of each, relative.
      identities: name of the person on each.
      of_identity: int [m], how many images of that person the data holds.
      read: index of an image → the JPEG bytes that a shard holds of it.
    """

    paths: list[str]
    identities: list[str]
    of_identity: np.ndarray
    read: Callable[[int], bytes]


@dataclasses.dataclass(frozen=True, eq=False)
class PairSet:
    """Labelled pairs.

    Attributes:
      name: what the pairs are called.
      images: the images in them.
      first: int [n], index of one image of each pair.
      second: int [n], of the other.
      labels: int [n], 1 for a genuine pair and 0 for an impostor pair.
      folds: int [n], from 0.
      lost: what is said of the pairs that the list has and this set lacks, and of doubtful identities; empty where there
        are none.
    """

    name: str
    images: Images
    first: np.ndarray
    second: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    lost: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def people(self) -> np.ndarray:
        """Numbers of both people of each pair, int64 [n, 2], in the order of their names from 0."""
        numbers = np.unique(np.array(self.images.identities), return_inverse=True)[1].reshape(-1)
        return np.stack([numbers[self.first], numbers[self.second]], axis=1)

    def names(self) -> set[str]:
        """Names of the people in the pairs."""
        return {self.images.identities[image] for image in np.union1d(self.first, self.second)}

    def digest(self) -> str:
        """SHA-256 of all paths and labels, whatever the order of pairs and of images in them; of no image's content."""
        rows = np.column_stack([self._ends(), self.labels.astype(np.uint64)])
        return hashlib.sha256(rows[np.lexsort(rows.T)].tobytes()).hexdigest()

    def keys(self) -> np.ndarray:
        """A number for each pair, uint64 [n]: the same in every set for the same two paths, in whichever order."""
        ends = self._ends()
        return ends[:, 0] * _ODD + ends[:, 1]

    def _ends(self) -> np.ndarray:
        """Hashes of the paths of both images of each pair, uint64 [n, 2], the lower first."""
        hashes = [
            hashlib.blake2b(path.encode(errors="surrogateescape"), digest_size=_HASH_BYTES)
            for path in self.images.paths
        ]
        numbers = np.array([int.from_bytes(each.digest(), "little") for each in hashes], np.uint64)
        return np.sort(numbers[np.stack([self.first, self.second], axis=1)], axis=1)

    def select(self, kept: np.ndarray, lost: str) -> "PairSet":
        """The pairs where bool [n] `kept` is true."""
        columns = {
            name: getattr(self, name)[kept] for name in ("first", "second", "labels", "folds")
        }
        return dataclasses.replace(self, **columns, lost="; ".join(filter(None, (self.lost, lost))))


# Pairs that a file lists over a folder of images: LFW's format with its folds, or a CSV.

_NAMED = 5  # images that a message names
Boxes = Mapping[str, images.Box]  # by path below the folder of images

_CONVERTER = options.ConvertOptions(images="")  # its defaults


def read_listed_pairs(
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
    found, odd, _, naming = datasets.scan_folder(folder, level, bool(merge_names))
    table = (
        pair_lists.read_csv_pairs(path, folder)
        if is_csv
        else pair_lists.read_lfw_pairs(path, found, level)
    )
    table = pair_lists.match_paths(table, set(found["path"]))
    doubts = identities.check(
        pair_lists.restrict_to_pairs(found, table),
        identity_level,
        merge_names,
        f"--images={folder}",
    )
    folds = 1 if is_csv else pair_lists.count_folds(path)
    fold = np.arange(len(table)) * folds // len(table)
    odd = pd.concat([odd, datasets.describe_unread(pd.concat([table["a"], table["b"]]))])
    pair_lists.require_agreement(table, path, naming.identity_of)
    pair_lists.require_once(table, path)
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
    named |= pair_lists.suggest_paths(
        [image for image, reason in named.items() if not reason][:_NAMED], known
    )
    return whole, require_usable(
        named, int(np.sum(~whole)), len(table), f"{path}, line {line}", allow_missing
    )


def require_usable(
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
        return images.load_sound_jpeg(
            files.read_bytes(os.path.join(folder, paths[number])), rules, box
        ).stored

    shown = Images(paths.tolist(), owners, of_identity, load)
    return PairSet(name, shown, first, second, table["label"].to_numpy(np.int64), fold, lost)


def storage_rules(
    crop: images.Crop, store_size: int | None, jpeg_quality: int = _CONVERTER.jpeg_quality
) -> Rules:
    """What becomes of an image before it is preprocessed, by the converter's flags of the same names.

    Raises:
      UserError: there is a `crop` and no `store_size`.
    """
    if crop != images.Crop() and store_size is None:
        given = "a CSV of boxes" if crop.boxes is not None else f"{crop.fraction:g}"
        raise UserError(
            f"--crop={given} cuts images as the converter stores them small: give --store_size too"
        )
    return Rules(_CONVERTER.max_pixels, jpeg_quality, store_size, crop.fraction)
