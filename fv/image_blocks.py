"""Images to embed, from a data source or from shards, in blocks that are the same in each run."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fv import errors, files, manifest, record, workers
from fv.conversion import datasets, images, jpeg, sources
from fv.conversion.datasets import Catalog, Place
from fv.conversion.formats import BadImage
from fv.evaluation import pair_sources, pairs

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
    catalog: Catalog, source: str, scratch: str, rules: images.StorageRules, boxes: pairs.FindBoxes
) -> tuple[int, pd.DataFrame, Iterator[Block]]:
    """Lists the images of a data source, as the converter does.

    Args:
      catalog: of the data source.
      source: its name, for messages.
      scratch: folder for copies of images that cannot be read by themselves.
      rules: how images are prepared.
      boxes: the part of each image, or a function that finds these for some images.

    Returns:
      The number of images; unusable files, with columns `path` and `reason`; the images.

    Raises:
      UserError: there is no image.
    """
    if catalog.images.empty:
        datasets.require_identities(catalog.images, catalog.unusable, source, catalog.passed_over)
    with workers.pool(workers.available_cores()) as run:
        unpacked = sources.unpack(catalog.images, scratch, run)
    blocks = _read_images(catalog, unpacked, rules, boxes)
    return len(catalog.images), catalog.unusable, blocks


def _read_images(
    catalog: Catalog, unpacked: pd.DataFrame, rules: images.StorageRules, boxes: pairs.FindBoxes
) -> Iterator[Block]:
    for start in range(0, len(unpacked), IMAGES_PER_BLOCK):
        rows = slice(start, start + IMAGES_PER_BLOCK)
        places = list(datasets.list_places(unpacked.iloc[rows]))
        paths = [place.path for place in places]
        identities = unpacked["identity"].iloc[rows].astype(str).tolist()
        # Before they were unpacked, which each run does.
        held = datasets.list_places(catalog.images.iloc[rows])
        stamp: list = [rules, *((*place[1:], _stamp(catalog.root, place)) for place in held)]
        if isinstance(boxes, Mapping):
            stamp += [np.asarray(boxes.get(path, ()), float).tolist() for path in paths]
        sizes: dict[int, tuple[int, int]] = {}
        find = boxes if callable(boxes) else lambda places: boxes
        # A detector runs when the first image of the block is read.
        find_parts = functools.cache(functools.partial(find, places))
        read = functools.partial(_read_image, catalog.root, places, rules, find_parts, sizes)
        yield Block(paths, identities, read, sizes, stamp)


def _read_image(
    root: str,
    places: Sequence[Place],
    rules: images.StorageRules,
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


def _stamp(root: str, place: Place) -> object:
    """What changes with a file."""
    path = place.file or os.path.join(root, place.path)
    with contextlib.suppress(OSError):  # reading it says why
        if files.is_remote(path):
            return files.size(path)
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    return None


def read_shards(folder: str, splits: list[manifest.Split]) -> Iterator[Block]:
    """The distinct images of shards, in their order; memory holds a hash of each path."""
    seen: set[int] = set()
    rows: list[tuple[str, str, tuple[str, int, int, str]]] = []

    def make_block() -> Block:
        paths, identities, places = map(list, zip(*rows, strict=True))
        sizes: dict[int, tuple[int, int]] = {}

        def read(number: int) -> bytes:
            path, offset, length, field = places[number]
            data = record.decode_pair(files.read_bytes(path, offset, length))[field]
            assert isinstance(data, bytes)
            with contextlib.suppress(ValueError):  # decoding it says why
                head = jpeg.read_head(data)
                sizes[number] = (head.width, head.height)
            return data

        return Block(paths, identities, read, sizes, [shard.sha256 for shard in shards])

    shards = [shard for split in splits for shard in split.shards]
    for shard in shards:
        path = os.path.join(folder, shard.name)
        for frame, pair in record.read_records(path, shard.records, record.decode_pair):
            data: Any = pair
            place = (path, frame.offset + record.HEAD_BYTES, len(frame.data))
            for name, identity, image in pair_sources.SIDES:
                key = hash(data[name])
                if key not in seen:
                    seen.add(key)
                    texts = (data[each].decode(errors="replace") for each in (name, identity))
                    rows.append((*texts, (*place, image)))
            if len(rows) >= IMAGES_PER_BLOCK:
                yield make_block()
                rows = []
    if rows:
        yield make_block()
