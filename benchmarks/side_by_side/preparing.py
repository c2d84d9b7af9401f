"""Writes a workload's images, and its shards with fv's own converter."""

import csv
import os
import pathlib

import cv2
import numpy as np
import simplejpeg

from benchmarks.side_by_side.workload import Workload
from fv import files
from fv.conversion import convert, csv_pairs, settings
from fv.errors import UserError

SHARDS = 8
SUBSAMPLING = "420"
SMALLER_QUALITY = 95  # of images that are made smaller


def write_images(
    source: str, work: Workload, count: int, side: int | None = None, quality: int | None = None
) -> None:
    """Copies the first `count` JPEGs of folders of faces to the workload's folder.

    Args:
      source: folder that holds one folder of JPEGs per person.
      work: whose images they become.
      count: how many.
      side: make each a square of so many pixels, by area average; as they are if None.
      quality: encode each anew so, 4:2:0; as they are if None.

    Raises:
      UserError: there are fewer.
    """
    paths = sorted(pathlib.Path(source).glob("*/*.jpg"))[:count]
    if len(paths) < count:
        raise UserError(
            f"{source} holds {len(paths)} images PERSON/*.jpg where --count={count}: give more, or a lower count"
        )
    for path in paths:
        target = pathlib.Path(work.images, path.parent.name, path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_encode(path.read_bytes(), side, quality))


def convert_pairs(work: Workload, rounds: int = 1) -> None:
    """Makes shards of the workload's images with fv's own converter.

    Args:
      work: whose images are there.
      rounds: in how many pairs each image is; a pair drawn twice is there once.
    """
    names = [str(path.relative_to(work.images)) for path in work.image_paths()]
    order = np.random.default_rng(0)
    ends = np.concatenate([_draw_pairs(order, len(names)) for _ in range(rounds)])
    listed = os.path.join(work.folder, "pairs.csv")
    with files.atomic_open(listed) as file:
        rows = csv.writer(file)
        rows.writerow(csv_pairs.COLUMNS)
        for first, second in np.unique(ends, axis=0):
            rows.writerow(
                [
                    names[first],
                    names[second],
                    int(os.path.dirname(names[first]) == os.path.dirname(names[second])),
                ]
            )
    convert.convert(
        settings.Options(
            work.images, work.shards, pairs_csv=listed, pairs_split="train", shards=SHARDS
        )
    )


def _draw_pairs(order: np.random.Generator, images: int) -> np.ndarray:
    """A random pairing int64 [images // 2, 2], the lower index first."""
    return np.sort(order.permutation(images)[: images // 2 * 2].reshape(-1, 2))


def _encode(data: bytes, side: int | None, quality: int | None) -> bytes:
    if not side and not quality:
        return data
    pixels = simplejpeg.decode_jpeg(data)
    if side:
        pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(pixels, quality or SMALLER_QUALITY, colorsubsampling=SUBSAMPLING)
