"""Every image is decoded whole once, in worker processes, before any pair is made of it."""

import dataclasses
import errno
import hashlib
import os
from collections.abc import Iterator

import cv2
import google_crc32c
import numpy as np
import pandas as pd

from fv import errors, files, progress, workers
from fv.conversion import images
from fv.conversion.formats import BadImage
from fv.errors import UserError

# Fingerprints of images: a digest of a file's bytes, and a hash of what the picture shows.
#
# The hash of a picture is the signs of its lowest spatial frequencies, so that what changes every
# frequency a little
# (compression, another size, brightness, contrast) changes few bits, and another picture changes
# half of them. Aligned faces
# are no exception: benchmarks/results/duplicates.md has the distances on LFW. What has no detail
# at all, as a colour gradient, is only
# found again where its bytes are equal: compression alone decides most of its bits.
#
# Source: C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010,
# section 3.2.1 (hash by DCT).

BITS = 256
WORDS = BITS // 64
DISTANCE = 12  # bits: 99.5 % of recompressed or resized faces lie within, no two different pictures of LFW below 36

_DIGEST_BYTES = 8
_READ_SIDE, _SIDE = (
    128,
    32,
)  # pixels: sampled to the first, which takes the same time for any image, then averaged to the second
_FREQUENCIES = 20  # along each axis; the BITS lowest lie within
_LEAST = 1.0  # of a coefficient: an even surface gives zero and rounding errors


def hash_bytes(data: bytes) -> int:
    """The first 64 bits of the SHA-256 of a file's bytes; equal for equal files, and by chance for none."""
    return int.from_bytes(hashlib.sha256(data).digest()[:_DIGEST_BYTES], "big")


def perceptual_hash(grey: np.ndarray) -> np.ndarray:
    """A hash of what a picture shows; the distance of two is the number of bits in which they differ.

    Args:
      grey: luma, uint8 [height, width], of any size.

    Returns:
      uint64 [WORDS].
    """
    sampled = cv2.resize(grey, (_READ_SIDE, _READ_SIDE), interpolation=cv2.INTER_LINEAR)
    small = cv2.resize(sampled, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    spectrum = _BASIS @ small @ _BASIS.T
    return np.packbits(spectrum.ravel()[_ORDER] > _LEAST).view(np.uint64)


def hamming_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Bits in which hashes differ.

    Args:
      a, b: uint64 [..., WORDS].

    Returns:
      int64 [...].
    """
    return np.bitwise_count(a ^ b).sum(axis=-1, dtype=np.int64)


def _basis() -> np.ndarray:
    """The lowest frequencies of the discrete cosine transform, float32 [_FREQUENCIES, _SIDE]."""
    frequency, place = np.mgrid[:_FREQUENCIES, :_SIDE]
    return np.cos(np.pi * frequency * (2 * place + 1) / (2 * _SIDE)).astype(np.float32)


def _order() -> np.ndarray:
    """Which coefficients are taken, the mean left out, so mixed that any run of bits has low and high frequencies."""
    y, x = np.mgrid[:_FREQUENCIES, :_FREQUENCIES]
    lowest = np.argsort((y**2 + x**2).ravel(), kind="stable")[1 : BITS + 1]
    return lowest[np.arange(BITS) * 101 % BITS]


_BASIS, _ORDER = _basis(), _order()


_IMAGES_PER_TASK = 64  # small enough to share the work evenly, and to show progress
_MOST_BYTES_PER_PIXEL = 9  # four channels of 16 bits, and a little for headers

OWN_FILE = -1
FINDING = np.dtype(
    [
        ("digest", np.uint64),  # of the file's bytes
        ("hash", np.uint64, (WORDS,)),  # of the picture
        (
            "offset",
            np.int64,
        ),  # of the stored bytes in the task's pack, OWN_FILE where they are the file's own
        ("bytes", np.uint32),  # stored
        ("crc", np.uint32),  # of the stored bytes
        (
            "width",
            np.uint32,
        ),  # of the upright image, in pixels; what is cut from it may be stored though it is too long
        ("height", np.uint32),
        ("side", np.uint16),  # of what is stored, where it is a square, else 0
    ]
)
KEPT_COLUMNS = ("offset", "bytes", "crc", "width", "height", "side")


@dataclasses.dataclass(frozen=True)
class Task:
    """A run of images for one worker; image `first + i` is at `paths[i]` below `root`, and `boxes[i]` of it is stored."""

    root: str
    paths: tuple[str, ...]
    boxes: tuple[images.Box | None, ...]
    first: int
    scratch: str
    rules: images.Rules


@dataclasses.dataclass(frozen=True)
class Checked:
    """The sound images, as in the catalog with `KEPT_COLUMNS`, and the bad ones, with columns `path` and `reason`.

    `digests` (uint64 [n]) and `hashes` (uint64 [n, words]) are of the sound ones, in their order.
    """

    sound: pd.DataFrame
    bad: pd.DataFrame
    digests: np.ndarray
    hashes: np.ndarray


def check_images(
    catalog: pd.DataFrame,
    root: str,
    scratch: str,
    rules: images.Rules,
    crop: images.Crop,
    run: workers.Map,
    strict: bool,
) -> Checked:
    """Checks every image of the catalog; JPEG bytes that had to be made go to packs in `scratch`.

    Args:
      catalog: table with columns `path` and `identity`, numbered from 0.
      root: the images folder.
      scratch: an empty folder.
      rules: what an image may be.
      crop: what is stored of it.
      run: maps `check` over tasks, in order.
      strict: stop at the first bad image.

    Returns:
      What was found.

    Raises:
      UserError: `strict` and an image is bad, or the images folder vanished.
      OSError: the scratch folder cannot be written.
    """
    findings, reasons, done = np.zeros(len(catalog), FINDING), {}, 0
    with progress.progress(len(catalog), "check", "image") as bar:
        for found, bad in run(check_task, _tasks(catalog, root, scratch, rules, crop)):
            if strict and bad:
                offset, reason = min(bad.items())
                path = catalog["path"].iloc[done + offset]
                raise UserError(
                    f"{path}: {reason} (--strict stops here; without it the image is left out)"
                )
            findings[done : done + len(found)] = found
            reasons |= {done + offset: reason for offset, reason in bad.items()}
            done += len(found)
            bar.update(len(found))
    sound = np.ones(len(catalog), bool)
    sound[list(reasons)] = False
    bad = pd.DataFrame(
        {"path": catalog["path"].to_numpy()[list(reasons)], "reason": list(reasons.values())},
        dtype=object,
    )
    findings = findings[sound]
    kept = catalog[sound].assign(**{name: findings[name] for name in KEPT_COLUMNS})
    return Checked(kept, bad, findings["digest"].copy(), findings["hash"].copy())


def check_task(task: Task) -> tuple[np.ndarray, dict[int, str]]:
    """Checks the images of one task.

    Returns:
      `FINDING` of each image, and the reason of each that is bad, by its place in the task.

    Raises:
      OSError: a network file system failed for a moment: the image may be sound.
    """
    findings, reasons, pack = np.zeros(len(task.paths), FINDING), {}, bytearray()
    for offset, (path, box) in enumerate(zip(task.paths, task.boxes, strict=True)):
        try:
            findings[offset] = _check_one(os.path.join(task.root, path), task.rules, box, pack)
        except BadImage as error:
            reasons[offset] = str(error)
        except OSError as error:
            _require_folder(task.root)
            if (
                errors.is_temporary(error) and error.errno != errno.EIO
            ):  # which a bad sector gives for ever
                raise OSError(error.errno, error.strerror, os.path.join(task.root, path)) from error
            reasons[offset] = f"cannot be read: {error.strerror}"
    if pack:
        with files.atomic_open(pack_path(task.scratch, task.first), "wb") as file:
            file.write(pack)
    return findings, reasons


def pack_path(scratch: str, index: int) -> str:
    """The pack that holds the stored bytes of image `index` of the catalog, if they are not its file's own."""
    return os.path.join(scratch, f"{index // _IMAGES_PER_TASK:09d}.pack")


def _check_one(path: str, rules: images.Rules, box: images.Box | None, pack: bytearray) -> tuple:
    """What `FINDING` holds of one image; bytes that had to be made are added to the pack."""
    if files.size(path) > rules.max_pixels * _MOST_BYTES_PER_PIXEL:
        raise BadImage("a file larger than any image within --max_megapixels")
    data = files.read_bytes(path)
    image = images.load_sound_jpeg(data, rules, box)
    offset = OWN_FILE
    if image.stored is not data:
        offset = len(pack)
        pack += image.stored
    height, width = image.grey.shape
    side = image.stored_size[0] if image.stored_size[0] == image.stored_size[1] else 0
    digest, picture = hash_bytes(data), perceptual_hash(image.grey)
    return (
        digest,
        picture,
        offset,
        len(image.stored),
        google_crc32c.value(image.stored),
        width,
        height,
        side,
    )


def _tasks(
    catalog: pd.DataFrame, root: str, scratch: str, rules: images.Rules, crop: images.Crop
) -> Iterator[Task]:
    for first in range(0, len(catalog), _IMAGES_PER_TASK):
        paths = tuple(catalog["path"].iloc[first : first + _IMAGES_PER_TASK])
        boxes = tuple(crop.boxes[path] if crop.boxes is not None else None for path in paths)
        yield Task(root, paths, boxes, first, scratch, rules)


def _require_folder(root: str) -> None:
    if not files.is_folder(root):
        raise UserError(f"--images={root} has vanished: mount it again and run the same command")
