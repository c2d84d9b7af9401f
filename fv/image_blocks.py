"""Images to embed, from a data source or from shards, in blocks that are the same in each run."""

import contextlib
import functools
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from fv import errors, files, manifest, workers
from fv.conversion import datasets, image_files, sources, storage
from fv.conversion.datasets import Catalog, Place
from fv.conversion.image_files import BadImage
from fv.evaluation import pairs
from fv.manifest import StoredImage

_DIGEST_BYTES = 16  # of a path: no two of them have the same
IMAGES_PER_BLOCK = 1024  # a killed run repeats one block at most


class Block(NamedTuple):
    """Consecutive images.

    Attributes:
      paths: of each image.
      identities: of each image.
      read: returns the stored JPEG bytes of an image by its index; may raise BadImage.
      sizes: width and height in pixels of each image that was read.
      stamp: changes with the images and their preparation.
    """

    paths: list[str]
    identities: list[str]
    read: Callable[[int], bytes]
    sizes: dict[int, tuple[int, int]]
    stamp: object


def read_source(
    catalog: Catalog,
    source: str,
    scratch: str,
    rules: storage.StorageRules,
    boxes: pairs.FindBoxes,
    *,
    digest: str = "",
) -> tuple[int, pd.DataFrame, Iterator[Block]]:
    """Lists the images of a data source, as the converter does.

    Args:
      catalog: of the data source.
      source: its name, for messages.
      scratch: folder for copies of images that cannot be read by themselves.
      rules: how images are prepared.
      boxes: the part of each image, or a function that finds these for some images.
      digest: of the file from which all images were unpacked; by default, size and time of each
        image's file stand for it.

    Returns:
      The number of images; unusable files, with columns `path` and `reason`; the images.

    Raises:
      UserError: there is no image.
    """
    if catalog.images.empty:
        sources.require_identities(catalog, source)
    with workers.pool(workers.available_cores()) as run:
        unpacked = sources.unpack(catalog.images, scratch, run)
    blocks = _read_images(catalog, unpacked, rules, boxes, digest)
    return len(catalog.images), catalog.unusable, blocks


def _read_images(
    catalog: Catalog,
    unpacked: pd.DataFrame,
    rules: storage.StorageRules,
    boxes: pairs.FindBoxes,
    digest: str,
) -> Iterator[Block]:
    for start in range(0, len(unpacked), IMAGES_PER_BLOCK):
        rows = slice(start, start + IMAGES_PER_BLOCK)
        places = list(datasets.list_places(unpacked.iloc[rows]))
        paths = [place.path for place in places]
        identities = unpacked["identity"].iloc[rows].astype(str).tolist()
        # Before they were unpacked, which each run does.
        held = datasets.list_places(catalog.images.iloc[rows])
        stamp_of = functools.cache(_stamp)  # one file may hold all images of the block
        stamp: list = [rules, digest]
        if not digest:
            origins = ((p, p.file or os.path.join(catalog.root, p.path)) for p in held)
            stamp += [(*place[1:], stamp_of(path)) for place, path in origins]
        if isinstance(boxes, Mapping):
            stamp += [np.asarray(boxes.get(path, ()), float).tolist() for path in paths]
        sizes: dict[int, tuple[int, int]] = {}
        find = boxes if callable(boxes) else lambda places: boxes
        # A detector runs when the first image of the block is read.
        find_parts = _run_once(functools.partial(find, places))
        read = functools.partial(_read_image, catalog.root, places, rules, find_parts, sizes)
        yield Block(paths, identities, read, sizes, stamp)


def _run_once(find: Callable[[], pairs.Boxes | None]) -> Callable[[], pairs.Boxes | None]:
    """A function whose first call finds the parts; threads that call it meanwhile wait."""
    cached, lock = functools.cache(find), threading.Lock()

    def find_parts() -> pairs.Boxes | None:
        with lock:  # functools.cache has none while it runs the function
            return cached()

    return find_parts


def _read_image(
    root: str,
    places: Sequence[Place],
    rules: storage.StorageRules,
    find_parts: Callable[[], pairs.Boxes | None],
    sizes: dict[int, tuple[int, int]],
    number: int,
) -> bytes:
    """`Block.read` of a data source."""
    place = places[number]
    try:
        data, _ = sources.read_image(root, place, rules.max_pixels)
    except OSError as error:
        errors.raise_if_temporary(error)
        raise BadImage(f"cannot be read: {error.strerror}") from error
    image = pairs.prepare_part(data, place.path, rules, find_parts())
    height, width = image.grey.shape
    sizes[number] = (width, height)
    return image.stored


def _stamp(path: str) -> object:
    """What changes with a file."""
    with contextlib.suppress(OSError):  # reading it says why
        if files.is_remote(path):
            return files.size(path)
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    return None


def read_shards(folder: str, splits: list[manifest.Split]) -> Iterator[Block]:
    """The distinct images of shards, in their order; memory holds a digest of each path.

    Raises:
      UserError: a record is damaged.
    """
    shards = [shard for split in splits for shard in split.shards]
    stamp = [shard.sha256 for shard in shards]
    seen: set[bytes] = set()
    stored: list[StoredImage] = []
    for _, pair in manifest.list_images(folder, shards):
        for image in pair:
            key = hashlib.blake2b(image.path.encode(), digest_size=_DIGEST_BYTES).digest()
            if key not in seen:
                seen.add(key)
                stored.append(image)
        if len(stored) >= IMAGES_PER_BLOCK:
            yield _block_of_shards(stored, stamp)
            stored = []
    if stored:
        yield _block_of_shards(stored, stamp)


def _block_of_shards(stored: list[StoredImage], stamp: object) -> Block:
    sizes: dict[int, tuple[int, int]] = {}

    def read(number: int) -> bytes:
        data = stored[number].read()
        with contextlib.suppress(ValueError):  # decoding it says why
            head = image_files.read_jpeg_head(data)
            sizes[number] = (head.width, head.height)
        return data

    paths, identities = zip(*((image.path, image.identity) for image in stored), strict=True)
    return Block(list(paths), list(identities), read, sizes, stamp)
