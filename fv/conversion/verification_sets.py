"""Verification sets: the .bin files of lfw, cfp_fp, agedb_30, calfw, cplfw and the like.

Such a file is a pickle of (images, labels). Images 2i and 2i + 1 are the encoded images of pair i,
as bytes or uint8 arrays, and label i says whether they show one person. Nothing names the people.
"""

import dataclasses
import hashlib
import os
import pickle
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fv import files
from fv.conversion import bin_pickles, datasets, duplicates
from fv.conversion.bin_pickles import Array, BadPickle, Blob
from fv.errors import UserError

SUFFIX = ".bin"

_MOST_IMAGE_BYTES = 1 << 28
_SHOWN_DIGITS = 8  # of an image's digest, in its name


@dataclasses.dataclass(frozen=True, eq=False)
class VerificationSet:
    """Labelled pairs of images that lie in one file.

    Attributes:
      path: the file.
      blobs: where each distinct image lies in it.
      names: a path for each of them, PERSON/NUMBER-DIGEST.jpg. NUMBER is that of the image in the
        file, from 0. PERSON stands for the images that genuine pairs join; one person may have
        several.
      first, second: int64 [n], the indices of the images of each pair.
      labels: int64 [n], 1 for a genuine pair and 0 for an impostor pair.
    """

    path: str
    blobs: Sequence[Blob]
    names: Sequence[str]
    first: np.ndarray
    second: np.ndarray
    labels: np.ndarray

    def read(self, number: int) -> bytes:
        """Reads the encoded bytes of an image by its index."""
        blob = self.blobs[number]
        return blob.decode(files.read_bytes(self.path, blob.offset, blob.length))

    def pairs(self) -> pd.DataFrame:
        """The pairs as `fv.conversion.pair_lists` has them."""
        a, b = (np.array(self.names, object)[ends] for ends in (self.first, self.second))
        lines = np.arange(1, len(self.labels) + 1)
        listed = pd.Categorical([f"{self.path}, pair"] * len(lines))
        return pd.DataFrame({"a": a, "b": b, "label": self.labels, "line": lines, "list": listed})


def is_verification_set(path: str) -> bool:
    """Whether a path names a verification set."""
    return path.lower().endswith(SUFFIX) and not files.is_folder(path)


def load(path: str) -> VerificationSet:
    """Reads where the images of a verification set are; memory holds no image.

    Images of equal bytes are one image.

    Raises:
      UserError: the file is damaged, or holds something else.
      OSError: the file cannot be read.
    """
    try:
        blobs, labels = _check(bin_pickles.load(path), path)
    except BadPickle as error:
        raise UserError(
            f"{path} cannot be read as a verification set: {error}; give a pickle of (list of "
            "encoded images, list of booleans) as InsightFace writes it, or fetch it again"
        ) from error
    numbers: dict[bytes, int] = {}
    ends: list[int] = []  # of each image in the file, its index
    firsts: list[int] = []  # of each index, the number of its first image
    digits: list[str] = []
    with files.open_bytes(path) as file:
        for number, blob in enumerate(blobs):
            file.seek(blob.offset)
            try:
                digest = hashlib.sha256(blob.decode(file.read(blob.length))).digest()
            except ValueError as error:
                raise UserError(f"{path}, image {number}: {error}: fetch the file again") from error
            if digest not in numbers:
                numbers[digest] = len(firsts)
                firsts.append(number)
                digits.append(digest.hex()[:_SHOWN_DIGITS])
            ends.append(numbers[digest])
    first, second = np.array(ends, np.int64).reshape(-1, 2).T
    people = duplicates.DisjointSets(len(firsts))
    people.join(first[labels == 1], second[labels == 1])
    stem = os.path.splitext(os.path.basename(path))[0]
    names = [
        f"{stem}-{firsts[person]:05d}/{number:05d}-{digest}.jpg"
        for person, number, digest in zip(
            people.roots(np.arange(len(firsts))), firsts, digits, strict=True
        )
    ]
    return VerificationSet(path, [blobs[at] for at in firsts], names, first, second, labels)


def unpack(found: VerificationSet, folder: str) -> datasets.Catalog:
    """Writes the images into a new scratch folder, and returns the catalog of the folder."""
    for number, name in enumerate(found.names):
        path = os.path.join(folder, name)
        files.make_folder(os.path.dirname(path))
        # atomic_open would wait for the disk after each image, which takes twice the time
        with files.atomic_open(path, "wb") if files.is_remote(path) else open(path, "wb") as file:
            file.write(found.read(number))
    return datasets.scan_folder(folder)._replace(naming=None)


def write(path: str, images: Sequence[bytes], labels: Sequence[bool]) -> None:
    """Writes a verification set as InsightFace does, atomically.

    Args:
      path: of the file.
      images: encoded, two for each label.
      labels: whether the two show one person.
    """
    with files.atomic_open(path, "wb") as file:
        pickle.dump((list(images), list(labels)), file, protocol=pickle.HIGHEST_PROTOCOL)


def _check(content: object, path: str) -> tuple[list[Blob], np.ndarray]:
    """The images and labels of a pickle's content."""
    images, labels = content if isinstance(content, list | tuple) and len(content) == 2 else (0, 0)
    if isinstance(labels, Array) and labels.dtype == "b1" and isinstance(labels.data, Blob):
        blob = labels.data
        labels = list(blob.decode(files.read_bytes(path, blob.offset, blob.length)))
    if not isinstance(images, list | tuple) or not isinstance(labels, list | tuple):
        raise BadPickle("it does not hold two lists, images and labels")
    wrong = [number for number, label in enumerate(labels) if label not in (0, 1)]
    if wrong:
        raise BadPickle(f"label {wrong[0]} is no boolean")
    if not labels or len(images) != 2 * len(labels):
        raise BadPickle(f"it has {len(images):,} images for {len(labels):,} labels, not two each")
    blobs = [_find_blob(image, number) for number, image in enumerate(images)]
    return blobs, np.array(labels, np.int64)


def _find_blob(image: object, number: int) -> Blob:
    if isinstance(image, Array):
        if image.dtype != "u1" or sum(size != 1 for size in image.shape) > 1:
            raise BadPickle(f"image {number} is no array of the bytes of an encoded image")
        image = image.data
    if not isinstance(image, Blob):
        raise BadPickle(f"image {number} is neither bytes nor an array of uint8")
    if image.length > _MOST_IMAGE_BYTES:
        raise BadPickle(f"image {number} has {image.length:,} bytes")
    return image
