"""Images to embed, from a folder or from shards, in blocks that are the same in each run."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fv import errors, files, manifest, record
from fv.conversion import datasets, images, jpeg
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


def read_folder(
    root: str, identity_level: int, rules: images.Rules, boxes: pairs.FindBoxes
) -> tuple[int, pd.DataFrame, Iterator[Block]]:
    """Lists the images of a folder, as the converter does.

    Args:
      root: the images folder.
      identity_level: which folder of an image's path names its identity, from 1.
      rules: how images are prepared.
      boxes: the part of each image, or a function that finds these for some paths.

    Returns:
      The number of images; unusable files, with columns `path` and `reason`; the images.

    Raises:
      UserError: there is no image.
    """
    catalog = datasets.scan_folder(root, identity_level)
    if catalog.images.empty:
        datasets.require_identities(catalog.images, catalog.unusable, root, catalog.passed_over)
    blocks = _read_files(root, catalog.images, rules, boxes)
    return len(catalog.images), catalog.unusable, blocks


def _read_files(
    root: str, table: pd.DataFrame, rules: images.Rules, boxes: pairs.FindBoxes
) -> Iterator[Block]:
    for start in range(0, len(table), IMAGES_PER_BLOCK):
        rows = table.iloc[start : start + IMAGES_PER_BLOCK]
        paths, identities = rows["path"].tolist(), rows["identity"].astype(str).tolist()
        places = [os.path.join(root, path) for path in paths]
        stamp: list = [rules, *map(_stamp, places)]
        if isinstance(boxes, Mapping):
            stamp += [np.asarray(boxes.get(path, ()), float).tolist() for path in paths]
        sizes: dict[int, tuple[int, int]] = {}
        find = boxes if callable(boxes) else lambda paths: boxes
        # A detector runs when the first image of the block is read.
        find_parts = functools.cache(functools.partial(find, paths))
        read = functools.partial(_read_file, places, paths, rules, find_parts, sizes)
        yield Block(paths, identities, read, sizes, stamp)


def _read_file(
    places: Sequence[str],
    paths: Sequence[str],
    rules: images.Rules,
    find_parts: Callable[[], pairs.Boxes | None],
    sizes: dict[int, tuple[int, int]],
    number: int,
) -> bytes:
    """`Block.read` of a file."""
    try:
        data = files.read_bytes(places[number])
    except OSError as error:
        errors.raise_if_temporary(error)
        raise BadImage(f"cannot be read: {error.strerror}") from error
    image = pairs.load_image(data, paths[number], rules, find_parts())
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
