"""Decodes every image once, in worker processes, before any pair is made of it.

Each sound image gets a digest of its file's bytes and a perceptual hash of its pixels, by which
`fv.conversion.duplicates` finds copies.
"""

import dataclasses
import functools
import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping

import cv2
import google_crc32c
import numpy as np
import pandas as pd

from fv import files, progress, workers
from fv.conversion import datasets, sources, storage
from fv.conversion.datasets import Place
from fv.conversion.image_files import BadImage
from fv.errors import UserError

HASH_BITS = 256
HASH_WORDS = HASH_BITS // 64
DISTANCE = 12  # bits: 99.5 % of recompressed or resized faces lie within, different ones beyond 36

_IMAGES_PER_TASK = 64  # small enough to share the work evenly, and to show progress
_DIGEST_BYTES = 8
_SAMPLED_SIDE = 128  # pixels: sampling takes the same time for an image of any size
_AVERAGED_SIDE = 32  # pixels
_FREQUENCIES = 20  # along each axis; the HASH_BITS lowest lie within
_LEAST_COEFFICIENT = 1.0  # an even surface gives zero and rounding errors

_RESULT = np.dtype(
    [
        ("digest", np.uint64),  # of the file's bytes
        ("hash", np.uint64, (HASH_WORDS,)),  # of the pixels
        ("offset", np.int64),  # of the stored bytes in their file; in the task's pack ~offset
        ("bytes", np.uint32),  # stored
        ("crc", np.uint32),  # of the stored bytes
        ("width", np.uint32),  # pixels of the upright image; 16 bits do not hold a panorama's
        ("height", np.uint32),
        ("side", np.uint16),  # of what is stored, where it is a square, else 0
    ]
)
KEPT_COLUMNS = ("offset", "bytes", "crc", "width", "height", "side")


Task = tuple[int, list[Place], list[storage.Part | None]]
"""Images for one worker: the number of the first, where they are, and what part is stored."""


@dataclasses.dataclass(frozen=True)
class Checked:
    """The result of the checks.

    Attributes:
      sound: the sound images, as in the catalog, with `KEPT_COLUMNS`.
      refused: the others, with columns `path` and `reason`.
      digests: of the sound images, uint64 [n].
      hashes: of the sound images, uint64 [n, HASH_WORDS].
    """

    sound: pd.DataFrame
    refused: pd.DataFrame
    digests: np.ndarray
    hashes: np.ndarray


def check_images(
    catalog: pd.DataFrame,
    root: str,
    scratch: str,
    rules: storage.StorageRules,
    boxes: Mapping[str, storage.Part] | None,
    run: workers.Map,
    strict: bool,
) -> Checked:
    """Checks every image of the catalog; JPEG bytes that had to be made go to packs in `scratch`.

    Args:
      catalog: table as `datasets.Catalog.images`, numbered from 0, after `sources.unpack`.
      root: as `datasets.Catalog.root`.
      scratch: an empty folder.
      rules: what an image may be.
      boxes: the part of each image that is stored, by path; None where `rules` say it.
      run: maps a function over tasks, in order.
      strict: stop at the first image that is refused.

    Raises:
      UserError: `strict` and an image is refused, or the images folder vanished.
      OSError: the scratch folder cannot be written, or a network file system failed for a moment.
    """
    paths = catalog["path"].array
    columns = {name: np.zeros(len(catalog), _RESULT[name]) for name in _RESULT.names or ()}
    check = functools.partial(check_task, root, scratch, rules)
    done = 0
    reasons: dict[int, str] = {}
    with progress.Progress(len(catalog), "check", "image") as bar:
        for found, refused in run(check, _tasks(catalog, boxes)):
            if strict and refused:
                place, reason = min(refused.items())
                advice = "--strict stops here; without it the image is left out"
                raise UserError(f"{paths[done + place]}: {reason} ({advice})")
            for name, column in columns.items():
                column[done : done + len(found)] = found[name]
            reasons |= {done + place: reason for place, reason in refused.items()}
            done += len(found)
            bar.update(len(found))
    is_sound = np.ones(len(catalog), bool)
    is_sound[list(reasons)] = False
    sound = catalog.drop(columns=["place", "span"], errors="ignore")
    if reasons:
        columns = {name: column[is_sound] for name, column in columns.items()}
        sound = sound[is_sound]
    sound = sound.copy(deep=False)
    for name in KEPT_COLUMNS:
        sound[name] = columns.pop(name)  # which is copied, so free it
    refused = pd.DataFrame({"path": paths[~is_sound], "reason": list(reasons.values())})
    return Checked(sound, refused.astype(object), columns["digest"], columns["hash"])


def check_task(
    root: str, scratch: str, rules: storage.StorageRules, task: Task
) -> tuple[np.ndarray, dict[int, str]]:
    """Checks the images of one task.

    Returns:
      `_RESULT` of each image, and the reason of each that is refused, by its place in the task.

    Raises:
      OSError: a network file system failed for a moment: the image may be sound.
    """
    first, places, boxes = task
    results, reasons, pack = np.zeros(len(places), _RESULT), {}, bytearray()
    for number, (place, box) in enumerate(zip(places, boxes, strict=True)):
        try:
            results[number] = _check_image(root, place, rules, box, pack)
        except BadImage as error:
            reasons[number] = str(error)
        except OSError as error:
            holder = place.file or root
            if not files.exists(holder):
                lost = f"--images={holder} has vanished"
                raise UserError(f"{lost}: mount it again and run the same command") from error
            if sources.may_pass(error):
                path = place.file or os.path.join(root, place.path)
                raise OSError(error.errno, error.strerror, path) from error
            reasons[number] = f"cannot be read: {error.strerror}"
    if pack:
        with files.atomic_open(pack_path(scratch, first), "wb") as file:
            file.write(pack)
    return results, reasons


def pack_path(scratch: str, index: int) -> str:
    """The pack with the stored bytes of image `index` of the catalog, if they were made."""
    return os.path.join(scratch, f"{index // _IMAGES_PER_TASK:09d}.pack")


def hash_bytes(data: bytes) -> int:
    """The first 64 bits of the SHA-256 of a file's bytes."""
    return int.from_bytes(hashlib.sha256(data).digest()[:_DIGEST_BYTES], "big")


def perceptual_hash(grey: np.ndarray) -> np.ndarray:
    """The signs of a picture's lowest spatial frequencies.

    Compression, another size, brightness or contrast change every frequency a little, and so few
    bits; another picture changes half of them. Of a picture without detail, such as a colour
    gradient, compression decides most bits. benchmarks/results/duplicates.md has the distances.

    Source: C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010,
    section 3.2.1 (hash by DCT).

    Args:
      grey: luma, uint8 [height, width], of any size.

    Returns:
      uint64 [HASH_WORDS], to be compared by `hamming_distances`.
    """
    sampled = cv2.resize(grey, (_SAMPLED_SIDE,) * 2, interpolation=cv2.INTER_LINEAR)
    averaged = cv2.resize(sampled, (_AVERAGED_SIDE,) * 2, interpolation=cv2.INTER_AREA)
    spectrum = _COSINES @ averaged.astype(np.float32) @ _COSINES.T
    return np.packbits(spectrum.ravel()[_ORDER] > _LEAST_COEFFICIENT).view(np.uint64)


def hamming_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Numbers of bits in which hashes differ: of uint64 [..., HASH_WORDS] int64 [...]."""
    return np.bitwise_count(a ^ b).sum(axis=-1, dtype=np.int64)


def _cosines() -> np.ndarray:
    """The lowest frequencies of the cosine transform, float32 [_FREQUENCIES, _AVERAGED_SIDE]."""
    frequency, place = np.mgrid[:_FREQUENCIES, :_AVERAGED_SIDE]
    angle = np.pi * frequency * (2 * place + 1) / (2 * _AVERAGED_SIDE)
    return np.cos(angle).astype(np.float32)


def _order() -> np.ndarray:
    """Indices of the HASH_BITS lowest coefficients without the mean, int64 [HASH_BITS].

    They are mixed so that any run of bits, as `fv.conversion.duplicates` compares, has low and high
    frequencies.
    """
    y, x = np.mgrid[:_FREQUENCIES, :_FREQUENCIES]
    lowest = np.argsort((y**2 + x**2).ravel(), kind="stable")[1 : HASH_BITS + 1]
    return lowest[np.arange(HASH_BITS) * 101 % HASH_BITS]


_COSINES, _ORDER = _cosines(), _order()


def _check_image(
    root: str, place: Place, rules: storage.StorageRules, box: storage.Part | None, pack: bytearray
) -> tuple:
    """The fields of `_RESULT` of one image; bytes that had to be made are added to the pack."""
    data, offset = sources.read_image(root, place, rules.max_pixels)
    image = storage.prepare_image(data, rules, box)
    if image.stored is not data or offset is None:
        offset = ~len(pack)
        pack += image.stored
    stored_width, stored_height = image.stored_size
    height, width = image.grey.shape
    return (
        hash_bytes(data),
        perceptual_hash(image.grey),
        offset,
        len(image.stored),
        google_crc32c.value(image.stored),
        width,
        height,
        stored_width if stored_width == stored_height else 0,
    )


def _tasks(catalog: pd.DataFrame, boxes: Mapping[str, storage.Part] | None) -> Iterator[Task]:
    places = datasets.list_places(catalog)
    for first in range(0, len(catalog), _IMAGES_PER_TASK):
        part = list(itertools.islice(places, _IMAGES_PER_TASK))
        yield first, part, [boxes[each.path] if boxes is not None else None for each in part]
