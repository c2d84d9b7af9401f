"""Labelled pairs of images, and the reader of lists of pairs over a folder of images.

`fv.evaluation.pair_sources` reads the pairs of shards.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from fv import files
from fv.alignment import Alignment
from fv.conversion import (
    datasets,
    duplicates,
    folders,
    identities,
    pair_checks,
    pair_lists,
    storage,
    verification_sets,
)
from fv.conversion.datasets import Place
from fv.conversion.image_files import BadImage
from fv.conversion.options import ConvertOptions
from fv.conversion.storage import StorageRules
from fv.errors import UserError
from fv.preprocessing import Preprocessing

Boxes = Mapping[str, storage.Part]
FindBoxes = Boxes | Callable[[list[Place]], Boxes] | None
MAX_PIXELS = int(ConvertOptions.max_megapixels * 1e6)  # of an image: the converter's default
_HASH_BYTES = 8  # of an image's path
_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd: a pair's key changes with either path
_NAMED = 5  # images in a message


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """The distinct images of a set of pairs.

    Attributes:
      paths: relative path of each image.
      identities: name of the person on each.
      images_of_identity: int [m], how many images of that person the data holds.
      read: returns the stored JPEG bytes of an image by its index; may raise BadImage.
    """

    paths: list[str]
    identities: list[str]
    images_of_identity: np.ndarray
    read: Callable[[int], bytes]


@dataclasses.dataclass(frozen=True, eq=False)
class PairSet:
    """Labelled pairs.

    Attributes:
      name: of the split or the list, for messages.
      images: the images of the pairs.
      first: int [n], index of one image of each pair.
      second: int [n], index of the other.
      labels: int [n], 1 for a genuine pair and 0 for an impostor pair.
      folds: int [n], from 0.
      note: for the report: which listed pairs are left out, and doubtful identities; may be empty.
      named: whether `Images.identities` are people. Else they are groups of images that genuine
        pairs join, and a person may have several.
    """

    name: str
    images: Images
    first: np.ndarray
    second: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    note: str = ""
    named: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    def people(self) -> np.ndarray:
        """Numbers of the two people of each pair, int64 [n, 2], from 0 in the order of names."""
        numbers = np.unique(np.array(self.images.identities), return_inverse=True)[1].reshape(-1)
        return np.stack([numbers[self.first], numbers[self.second]], axis=1)

    def identities(self) -> set[str]:
        """Names of the people in the pairs."""
        return {self.images.identities[image] for image in np.union1d(self.first, self.second)}

    def digest(self) -> str:
        """SHA-256 of all paths and labels, independent of the order of pairs and of their images.

        It says nothing about the content of images.
        """
        rows = np.column_stack([self._hash_paths(), self.labels.astype(np.uint64)])
        return hashlib.sha256(rows[np.lexsort(rows.T)].tobytes()).hexdigest()

    def keys(self) -> np.ndarray:
        """A key for each pair, uint64 [n], equal in every set for the same two paths."""
        hashes = self._hash_paths()
        return hashes[:, 0] * _HASH_FACTOR + hashes[:, 1]

    def _hash_paths(self) -> np.ndarray:
        """Hashes of the two paths of each pair, uint64 [n, 2], the lower first."""
        hashes = [
            hashlib.blake2b(path.encode(errors="surrogateescape"), digest_size=_HASH_BYTES)
            for path in self.images.paths
        ]
        numbers = np.array([int.from_bytes(each.digest(), "little") for each in hashes], np.uint64)
        return np.sort(numbers[np.stack([self.first, self.second], axis=1)], axis=1)

    def select(self, kept: np.ndarray, note: str) -> "PairSet":
        """The pairs where bool [n] `kept` is true, with one more note."""
        names = "first", "second", "labels", "folds"
        columns = {name: getattr(self, name)[kept] for name in names}
        return dataclasses.replace(self, **columns, note="; ".join(filter(None, (self.note, note))))


def read_listed_pairs(
    path: str,
    folder: str,
    rules: StorageRules,
    *,
    is_csv: bool,
    allow_missing: bool,
    boxes: FindBoxes = None,
    identity_level: int | None = None,
    merge_names: bool | None = None,
) -> PairSet:
    """Reads a list of pairs.

    Args:
      path: a list that `pair_lists.read` reads.
      folder: of images, one folder per person.
      rules: how images are stored before preprocessing, as in the converter.
      is_csv: whether the list is a CSV; its pairs are one fold.
      allow_missing: leave out the pairs of missing images.
      boxes: the part of each image to use, by its path below `folder`, or a function that gives
        them for the images of the list; an image without one is broken.
      identity_level: which folder of an image's path names the person; None for the first, if that
        is plausible.
      merge_names: whether names that differ only in spelling are one person's; None to refuse them.

    Raises:
      UserError: the list or folder cannot be used, an image is missing, a label contradicts the
        folders, a pair is listed twice or joins an image with itself, or folders or names are not
        plausible as people.
    """
    level = identity_level or 1
    found, left_out, _, naming, _ = folders.scan_folders([folder], level, bool(merge_names))
    table = pair_lists.read(path, found, folder, level, is_csv=is_csv)
    named = not found.empty or bool(table["a"].str.contains("/").any())
    doubts: Sequence[identities.Finding] = ()
    if named:
        listed = pair_checks.restrict_to_pairs(found, table)
        doubts = identities.check(listed, identity_level, merge_names, f"--images={folder}", naming)
        unread = datasets.describe_unread(pd.concat([table["a"], table["b"]]))
        left_out = pd.concat([left_out, unread])
        assert naming  # folders name people
        pair_checks.require_agreement(table, path, naming.identity_of)
        if "list" not in table:  # CFP's protocol stands as it was published
            pair_checks.require_once(table, path)
    else:  # the images lie in one folder, so that nothing names their people
        found = pd.DataFrame({"path": [name for name in files.names(folder) if "/" not in name]})
        left_out = datasets.describe_unread(())
    whole, note = _find_whole_pairs(table, found, left_out, path, allow_missing)
    table = table[whole]

    paths, numbers = np.unique(table[["a", "b"]].to_numpy(str), return_inverse=True)
    first, second = numbers.reshape(-1, 2).T
    labels = table["label"].to_numpy(np.int64)
    if named:
        owners = found.set_index("path")["identity"].astype(str).reindex(paths).tolist()
        images_of = found["identity"].value_counts()
        counts = np.array([images_of[owner] for owner in owners])
    else:
        owners = _join_people(path, paths, first[labels == 1], second[labels == 1])
        counts = np.zeros(len(paths), np.int64)  # not known
    folds = table["fold"].to_numpy(np.int64) if "fold" in table else np.zeros(len(table), np.int64)
    return PairSet(
        os.path.basename(path),
        Images(paths.tolist(), owners, counts, _reader(paths, folder, rules, boxes)),
        first,
        second,
        labels,
        folds,
        "; ".join(filter(None, (note, *map(str, doubts)))),
        named,
    )


def _join_people(path: str, images: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[str]:
    """A name for each image, the same for all that genuine pairs of the list `path` join."""
    people = duplicates.DisjointSets(len(images))
    people.join(first, second)
    stem = os.path.splitext(os.path.basename(path))[0]
    return [f"{stem}-{images[root]}" for root in people.roots(np.arange(len(images)))]


def read_verification_set(path: str, rules: StorageRules, folds: int | None = None) -> PairSet:
    """Reads a verification set (.bin), whose people have no names.

    Args:
      path: of the file.
      rules: how images are stored before preprocessing, as in the converter.
      folds: how many, in the order of the pairs; ten if None.

    Raises:
      UserError: the file cannot be used, or has fewer pairs than folds.
    """
    found = verification_sets.load(path)
    count = folds or pair_lists.FOLDS
    if len(found.labels) < count:
        raise UserError(
            f"{path} has {len(found.labels)} pairs, too few for {count} folds: give fewer --folds"
        )
    owners = [name.split("/")[0] for name in found.names]
    unknown = np.zeros(len(owners), np.int64)

    def read(number: int) -> bytes:
        return storage.prepare_image(found.images[number], rules).stored

    return PairSet(
        os.path.basename(path),
        Images(list(found.names), owners, unknown, read),
        found.first,
        found.second,
        found.labels,
        pair_lists.consecutive_folds(len(found.labels), count),
        named=False,
    )


def _reader(
    paths: np.ndarray, folder: str, rules: StorageRules, boxes: FindBoxes
) -> Callable[[int], bytes]:
    """The `Images.read` of the images of a folder."""
    parts = boxes(list(map(Place, paths.tolist()))) if callable(boxes) else boxes

    def read(number: int) -> bytes:
        data = files.read_bytes(os.path.join(folder, paths[number]))
        return prepare_part(data, paths[number], rules, parts).stored

    return read


def prepare_part(
    data: bytes, path: str, rules: StorageRules, parts: Boxes | None
) -> storage.PreparedImage:
    """Prepares an image as training images were.

    Args:
      data: the file's bytes.
      path: its key in `parts`.
      rules: how it is stored.
      parts: what part of each image; None for the whole.

    Raises:
      BadImage: it is damaged, or `parts` lack it.
    """
    box = None
    if parts is not None:
        box = parts.get(path)
        if box is None:
            raise BadImage(
                "no face" if rules.preprocessing.alignment else "no box in the CSV of --crop"
            )
    return storage.prepare_image(data, rules, box)


def storage_rules(
    crop: storage.Crop,
    store_size: int | None,
    jpeg_quality: int = ConvertOptions.jpeg_quality,
    alignment: Alignment | None = None,
) -> StorageRules:
    """How images are stored before preprocessing, by the converter's flags of the same names.

    Raises:
      UserError: there is a `crop` and no `store_size`.
    """
    if crop != storage.Crop() and store_size is None:
        given = "a CSV of boxes" if crop.boxes is not None else f"{crop.fraction:g}"
        raise UserError(
            f"--crop={given} cuts images as the converter stores them small: give --store_size too"
        )
    made = Preprocessing(crop.fraction, store_size=store_size, jpeg_quality=jpeg_quality)
    return StorageRules(MAX_PIXELS, dataclasses.replace(made, alignment=alignment))


def note_missing(
    reasons: Mapping[str, str],
    whole: np.ndarray,
    source: str,
    allowed: bool,
    remedy: str = "mend --images",
) -> str:
    """The note on images that cannot be used.

    Args:
      reasons: why each image cannot be used; empty if it is missing.
      whole: bool [n], whether a pair has both images.
      source: the list or split.
      allowed: whether pairs may be left out.
      remedy: how the user gets whole images.

    Raises:
      UserError: pairs may not be left out, or no pair is left.
    """
    names = [f"{image} ({reason})" if reason else image for image, reason in reasons.items()]
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    note = (
        f"{source}: {np.sum(~whole):,} of {len(whole):,} pairs lack one of {len(names):,} images "
        f"that are missing or broken: {shown}"
    )
    if not whole.any():
        raise UserError(f"{note}; no pair is left: {remedy}")
    if not allowed:
        raise UserError(
            f"{note}; figures without them are not those of the protocol: {remedy}, or give "
            "--allow_missing"
        )
    return f"{note}; these pairs are left out, so the figures are not quite those of the protocol"


def _find_whole_pairs(
    table: pd.DataFrame,
    found: pd.DataFrame,
    left_out: pd.DataFrame,
    path: str,
    allow_missing: bool,
) -> tuple[np.ndarray, str]:
    """Which pairs have both images, bool [n], and the note on the others."""
    known = set(found["path"])
    listed = pd.unique(table[["a", "b"]].to_numpy(object).ravel())
    missing = [image for image in listed if image not in known]
    if not missing:
        return np.ones(len(table), bool), ""
    whole = ~(table["a"].isin(missing) | table["b"].isin(missing)).to_numpy()
    place = pair_checks.place(table.iloc[int(np.argmin(whole))], path)
    reasons = dict(zip(left_out["path"], left_out["reason"], strict=True))
    reasons = {image: reasons.get(image, "") for image in missing}
    unexplained = [image for image, reason in reasons.items() if not reason]
    reasons |= pair_checks.suggest_paths(unexplained[:_NAMED], known)
    return whole, note_missing(reasons, whole, place, allow_missing)
