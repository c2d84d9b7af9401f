"""From a file's bytes to the JPEG bytes that are stored: untouched where they are sound, made once where they have to be."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import simplejpeg

from fv import tables
from fv.conversion import formats, jpeg
from fv.conversion.formats import BadImage
from fv.errors import UserError
from fv.preprocessing import WHOLE

# Which part of an image is stored: all of it, its centre square, or a box that a CSV gives for
# each image.

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


def parse_crop(text: str) -> Crop:
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


def crop_window(width: int, height: int, fraction: float | None, box: Box | None) -> Box:
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


def require_boxes(
    images: pd.DataFrame, crop: Crop, source: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
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


_WHOLE_SUBSAMPLING = "444"  # what was lossless keeps its colours
_CMYK = 4  # components
_UNKNOWN_SUBSAMPLING = (
    "Could not determine subsampling"  # of simplejpeg's, before it decodes anything
)
_RESIZED_SUBSAMPLING = (
    "420"  # as nearly every camera's JPEG; decodes faster, which is what resizing is for
)


@dataclasses.dataclass(frozen=True)
class Rules:
    """What an image may be and becomes.

    Attributes:
      max_pixels: most pixels it may have.
      jpeg_quality: 1 to 100, where it is written anew.
      store_size: longest that the shorter side of what is stored may be, in pixels; None to store images as they are.
      crop_fraction: side of the centre square that is stored over the shorter side, in (0, 1]; None for the whole image or,
        where one is given with it, an image's box.
    """

    max_pixels: int
    jpeg_quality: int
    store_size: int | None = None
    crop_fraction: float | None = None


@dataclasses.dataclass(frozen=True)
class Sound:
    """A sound image.

    Attributes:
      stored: the JPEG bytes to store, the file's own where these can be.
      grey: uint8 [height, width], the whole upright image.
      stored_size: width and height of what is stored, in pixels.
    """

    stored: bytes
    grey: np.ndarray
    stored_size: tuple[int, int]


def load_sound_jpeg(data: bytes, rules: Rules, box: Box | None = None) -> Sound:
    """Decodes an image whole and gives JPEG bytes that every JPEG decoder reads the same way.

    Baseline and progressive JPEG, RGB or grey, upright, comes back untouched, up to its end marker. All else becomes RGB
    JPEG without chroma subsampling: transparency on white, the first frame of several, 16 bits a channel scaled to 8, EXIF
    rotation applied. With `rules.store_size`, every image is cut, made smaller by area averages where it is larger, and
    written anew.

    Args:
      data: the file's bytes.
      rules: limits, quality and size.
      box: the part to store.

    Raises:
      BadImage: empty, cut short, damaged, too large or not an image.
    """
    if not data:
        raise BadImage("empty file")
    if not data.startswith(jpeg.START):
        return _store(formats.decode(data, rules.max_pixels), rules, box)
    try:
        return _load_jpeg(data, rules, box)
    except ValueError as error:
        if _UNKNOWN_SUBSAMPLING in str(error):
            raise BadImage(
                "a JPEG whose chroma subsampling fv does not read: save it anew, as 4:2:0 or 4:4:4"
            ) from error
        raise BadImage(f"damaged JPEG: {error}") from error


def _load_jpeg(data: bytes, rules: Rules, box: Box | None) -> Sound:
    """Decodes a JPEG once in strict mode, whatever is stored of it: other decoders fill what is missing with grey.

    Raises:
      ValueError: it is damaged.
    """
    head = jpeg.read_head(data)
    formats.check_size(head.width, head.height, rules.max_pixels)
    if head.bits != 8:
        raise BadImage(f"JPEG of {head.bits} bits a sample: save it with 8")
    if head.mends:
        data = jpeg.mend(data, head)
    if head.plain and head.orientation == jpeg.UPRIGHT and not rules.store_size:
        grey = simplejpeg.decode_jpeg(data, "GRAY", strict=True)[:, :, 0]
        end = jpeg.find_end(data, head.scan)
        return Sound(data if end == len(data) else data[:end], grey, (head.width, head.height))
    rgb = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    if head.components == _CMYK:  # Pillow converts ink to RGB as TensorFlow does
        return _store(formats.decode(data, rules.max_pixels), rules, box)
    return _store(formats.turn_upright(rgb, head.orientation), rules, box)


def _store(rgb: np.ndarray, rules: Rules, box: Box | None) -> Sound:
    """Cuts, resizes and encodes the pixels of an upright image, uint8 [height, width, 3]."""
    part, subsampling = rgb, _WHOLE_SUBSAMPLING
    if rules.store_size:
        part, subsampling = _resize(_cut(rgb, rules, box), rules.store_size), _RESIZED_SUBSAMPLING
    if max(part.shape) > jpeg.MAX_SIDE:
        raise BadImage(f"a side longer than the {jpeg.MAX_SIDE:,} pixels of a JPEG")
    encoded = simplejpeg.encode_jpeg(
        np.ascontiguousarray(part), rules.jpeg_quality, "RGB", subsampling, fastdct=False
    )
    return Sound(encoded, cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (part.shape[1], part.shape[0]))


def _cut(rgb: np.ndarray, rules: Rules, box: Box | None) -> np.ndarray:
    height, width, _ = rgb.shape
    try:
        left, top, width, height = crop_window(width, height, rules.crop_fraction, box)
    except ValueError as error:
        raise BadImage(str(error)) from error
    return rgb[top : top + height, left : left + width]


def _resize(rgb: np.ndarray, store_size: int) -> np.ndarray:
    """Makes the shorter side `store_size` by exact area averages; an image that is smaller already stays as it is."""
    height, width, _ = rgb.shape
    scale = store_size / min(width, height)
    if scale >= 1.0:
        return rgb
    size = max(store_size, round(width * scale)), max(store_size, round(height * scale))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
