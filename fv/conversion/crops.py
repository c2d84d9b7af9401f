"""Which part of an image is stored: all of it, its centre square, or a box that a CSV gives for each image."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from fv import tables
from fv.errors import UserError
from fv.preprocessing import WHOLE

COLUMNS = ("path", "left", "top", "width", "height")


class Box(NamedTuple):
    """A part of an upright image, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Crop:
    """What `--crop` says: the side of the centre square over the shorter side, in (0, 1], or a box by path, or neither."""

    fraction: float | None = None
    boxes: Mapping[str, Box] | None = None


def parse(text: str) -> Crop:
    """Reads the value of `--crop`.

    Args:
      text: `none`, a number in (0, 1], or the path of a CSV with `COLUMNS`, boxes in pixels of the upright image.

    Raises:
      UserError: the number is out of range, or the CSV cannot be used.
      OSError: neither a number nor a file that can be read.
    """
    if text == WHOLE:
        return Crop()
    try:
        fraction = float(text)
    except ValueError:
        return Crop(boxes=_read_boxes(text))
    if not 0.0 < fraction <= 1.0:
        raise UserError(
            f"--crop={text} is not in (0, 1]: give the centre square's side over the image's shorter side"
        )
    return Crop(fraction)


def window(width: int, height: int, fraction: float | None, box: Box | None) -> Box:
    """The part of an image of `width` × `height` pixels that is stored, inside the image.

    Raises:
      ValueError: the box lies outside the image.
    """
    if box:
        left, top = max(0, box.left), max(0, box.top)
        right, bottom = min(width, box.left + box.width), min(height, box.top + box.height)
        if right <= left or bottom <= top:
            raise ValueError(f"its box {tuple(box)} lies outside its {width} × {height} pixels")
        return Box(left, top, right - left, bottom - top)
    if fraction:
        side = max(
            1, round(min(width, height) * fraction)
        )  # as fv.preprocess cuts the centre square
        return Box((width - side) // 2, (height - side) // 2, side, side)
    return Box(0, 0, width, height)


def boxed(images: pd.DataFrame, crop: Crop, source: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The images that have a box where boxes are given, numbered anew; and the others, with columns `path` and `reason`."""
    has = (
        np.ones(len(images), bool)
        if crop.boxes is None
        else images["path"].isin(crop.boxes.keys()).to_numpy()
    )
    others = images.loc[~has, ["path"]].assign(reason=f"no box in {source}")
    return images[has].reset_index(drop=True), others


def _read_boxes(path: str) -> dict[str, Box]:
    rows = tables.read(path, COLUMNS)
    boxes: dict[str, Box] = {}
    for row, (name, *sides) in enumerate(zip(*(rows[column] for column in COLUMNS), strict=True)):
        where = rows.place(row)
        image, box = tables.normal_path(name, where), _parse_box(sides, where)
        if boxes.setdefault(image, box) != box:
            raise UserError(f"{where}: a second box for {image}: give one box for each image")
    return {tables.without_blanks(image): box for image, box in boxes.items()} | boxes


def _parse_box(sides: list[str], where: str) -> Box:
    numbers = [tables.parse_number(side) for side in sides]
    if None in numbers:
        said = (
            f"left, top, width and height have to be numbers of pixels, and are {', '.join(sides)}"
        )
        raise UserError(f"{where}: {said}")
    box = Box(*map(round, numbers))
    if box.width < 1 or box.height < 1:
        raise UserError(f"{where}: a box of {box.width} × {box.height} pixels is empty")
    return box
