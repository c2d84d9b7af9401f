"""Turns the bytes of an image file into the JPEG bytes that shards store.

A sound JPEG is stored as it is, all else is encoded once. `--crop` and `--store_size` cut an image
and make it smaller before that.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from fv import jpeg_loader, tables
from fv.conversion import image_files
from fv.conversion.image_files import BadImage
from fv.errors import UserError
from fv.preprocessing import WHOLE, Preprocessing

COLUMNS = ("path", "left", "top", "width", "height")  # of a CSV of boxes

_WHOLE_SUBSAMPLING = "444"  # keeps the colours of what was lossless
_RESIZED_SUBSAMPLING = "420"  # that of nearly every camera; decodes faster
_UNKNOWN_SUBSAMPLING = "Could not determine subsampling"  # simplejpeg's error, before it decodes


class Box(NamedTuple):
    """A part of an upright image, in pixels."""

    left: int
    top: int
    width: int
    height: int


Part = Box | np.ndarray
"""A box; or the points of a face, float64 [5, 2], which `Preprocessing.alignment` aligns."""


@dataclasses.dataclass(frozen=True)
class Crop:
    """The value of `--crop`; the whole image where both are None.

    Attributes:
      fraction: side of the centre square over the shorter side, in (0, 1].
      boxes: the part of each image, by path.
    """

    fraction: float | None = None
    boxes: Mapping[str, Part] | None = None


@dataclasses.dataclass(frozen=True)
class StorageRules:
    """Most pixels that an image may have, and how it is stored; boxes are given with each image."""

    max_pixels: int
    preprocessing: Preprocessing = Preprocessing()


@dataclasses.dataclass(frozen=True)
class PreparedImage:
    """An image that every JPEG decoder reads the same way.

    Attributes:
      stored: the JPEG bytes to store, the file's own where these can be.
      grey: uint8 [height, width], the whole upright image.
      stored_size: width and height of what is stored, in pixels.
    """

    stored: bytes
    grey: np.ndarray
    stored_size: tuple[int, int]


def prepare_image(data: bytes, rules: StorageRules, box: Part | None = None) -> PreparedImage:
    """Decodes a whole image and makes the JPEG bytes to store.

    Baseline and progressive JPEG, RGB or grey, upright, comes back untouched, up to its end marker.
    All else becomes RGB JPEG without chroma subsampling: transparency on white, the first frame of
    several, 16 bits a channel scaled to 8, EXIF rotation applied. With a `store_size`, every image
    is cut to `box`, made smaller by area averages where it is larger, and encoded.

    Raises:
      BadImage: empty, cut short, damaged, too large or not an image.
    """
    if not data:
        raise BadImage("empty file")
    if not data.startswith(image_files.JPEG_START):
        return _encode(image_files.decode(data, rules.max_pixels), rules, box)
    with _refuse_damaged():
        return _prepare_jpeg(data, rules, box)


def decode_upright(data: bytes, max_pixels: int) -> np.ndarray:
    """Decodes an image as `prepare_image` does, with the same errors: uint8 [height, width, 3]."""
    if not data.startswith(image_files.JPEG_START):
        return image_files.decode(data, max_pixels)
    with _refuse_damaged():
        return _decode_upright(*_read_head(data, max_pixels), max_pixels)


def parse_crop(text: str) -> Crop:
    """Reads the value of `--crop`: `none`, a number in (0, 1], or the path of a CSV of `COLUMNS`.

    Raises:
      UserError: the number is out of range, or the CSV cannot be used.
    """
    if text == WHOLE:
        return Crop()
    try:
        fraction = float(text)
    except ValueError:
        return Crop(boxes=_read_boxes(text))
    if not 0.0 < fraction <= 1.0:
        meaning = "the centre square's side over the image's shorter side"
        raise UserError(f"--crop={text} is not in (0, 1]: give {meaning}")
    return Crop(fraction)


def crop_window(width: int, height: int, fraction: float | None, box: Box | None) -> Box:
    """The part of an image of `width` × `height` pixels that is stored, inside the image.

    Raises:
      BadImage: the box lies outside the image.
    """
    if box:
        left, top = max(0, box.left), max(0, box.top)
        right, bottom = min(width, box.left + box.width), min(height, box.top + box.height)
        if right <= left or bottom <= top:
            raise BadImage(f"its box {tuple(box)} lies outside its {width} × {height} pixels")
        return Box(left, top, right - left, bottom - top)
    if fraction:
        top, left, side = jpeg_loader.centre_square(height, width, fraction, np.float64)
        return Box(left, top, side, side)
    return Box(0, 0, width, height)


def cut_and_resize(
    rgb: np.ndarray, store_size: int, fraction: float | None, box: Box | None = None
) -> np.ndarray:
    """Cuts `crop_window` from an image and makes its shorter side `store_size`; never enlarges.

    Each pixel is the exact average of an area. Images are uint8 [height, width, 3].
    """
    height, width, _ = rgb.shape
    left, top, width, height = crop_window(width, height, fraction, box)
    part = rgb[top : top + height, left : left + width]
    scale = store_size / min(width, height)
    if scale >= 1.0:
        return part
    size = max(store_size, round(width * scale)), max(store_size, round(height * scale))
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA)


@contextlib.contextmanager
def _refuse_damaged() -> Iterator[None]:
    """Makes the errors of a JPEG's decoder a BadImage."""
    try:
        yield
    except ValueError as error:
        if _UNKNOWN_SUBSAMPLING in str(error):
            raise BadImage(
                "a JPEG whose chroma subsampling fv does not read: save it anew, as 4:2:0 or 4:4:4"
            ) from error
        raise BadImage(f"damaged JPEG: {error}") from error


def _prepare_jpeg(data: bytes, rules: StorageRules, box: Part | None) -> PreparedImage:
    """Prepares a JPEG. Raises ValueError where it is damaged."""
    data, head = _read_head(data, rules.max_pixels)
    # Strict decoding finds damage; without it, decoders fill what is missing with grey. Every JPEG
    # is decoded strictly, also where other pixels are stored.
    is_upright = head.orientation == image_files.UPRIGHT
    if head.plain and is_upright and not rules.preprocessing.store_size:
        grey = simplejpeg.decode_jpeg(data, "GRAY", strict=True)[:, :, 0]
        end = image_files.find_jpeg_end(data, head.scan)
        stored = data if end == len(data) else data[:end]
        return PreparedImage(stored, grey, (head.width, head.height))
    return _encode(_decode_upright(data, head, rules.max_pixels), rules, box)


def _read_head(data: bytes, max_pixels: int) -> tuple[bytes, image_files.JpegHead]:
    """Checks the header of a JPEG; returns the file with its repairs, and the header."""
    head = image_files.read_jpeg_head(data)
    image_files.check_size(head.width, head.height, max_pixels)
    if head.bits != 8:
        raise BadImage(f"JPEG of {head.bits} bits a sample: save it with 8")
    return image_files.repair_jpeg(data, head) if head.repairs else data, head


def _decode_upright(data: bytes, head: image_files.JpegHead, max_pixels: int) -> np.ndarray:
    rgb = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    if head.components == image_files.CMYK:  # Pillow converts ink to RGB as TensorFlow does
        return image_files.decode(data, max_pixels)
    return image_files.turn_upright(rgb, head.orientation)


def _encode(rgb: np.ndarray, rules: StorageRules, box: Part | None) -> PreparedImage:
    """Cuts, resizes and encodes the pixels of an upright image, uint8 [height, width, 3]."""
    part, subsampling, preprocessing = rgb, _WHOLE_SUBSAMPLING, rules.preprocessing
    if preprocessing.alignment:
        assert preprocessing.store_size and isinstance(box, np.ndarray)
        if np.isinf(box).any():
            raise BadImage("could not be read when its face was sought: run the command again")
        part = preprocessing.alignment.align(rgb, box, preprocessing.store_size)
        subsampling = _RESIZED_SUBSAMPLING
    elif preprocessing.store_size:
        assert not isinstance(box, np.ndarray)
        part = cut_and_resize(rgb, preprocessing.store_size, preprocessing.crop_fraction, box)
        subsampling = _RESIZED_SUBSAMPLING
    height, width, _ = part.shape
    if max(height, width) > image_files.MAX_JPEG_SIDE:
        raise BadImage(f"a side longer than the {image_files.MAX_JPEG_SIDE:,} pixels of a JPEG")
    stored = simplejpeg.encode_jpeg(
        np.ascontiguousarray(part), preprocessing.jpeg_quality, "RGB", subsampling, fastdct=False
    )
    return PreparedImage(stored, cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (width, height))


def _read_boxes(path: str) -> dict[str, Box]:
    rows = tables.read(path, COLUMNS)
    boxes: dict[str, Box] = {}
    for row, (name, *sides) in enumerate(zip(*(rows[column] for column in COLUMNS), strict=True)):
        where = rows.place(row)
        image = tables.normal_path(name, where)
        numbers = [number for number in map(tables.parse_number, sides) if number is not None]
        if len(numbers) < len(sides):
            wanted = "left, top, width and height have to be numbers of pixels"
            raise UserError(f"{where}: {wanted}, and are {', '.join(sides)}")
        box = Box(*map(round, numbers))
        if box.width < 1 or box.height < 1:
            raise UserError(f"{where}: a box of {box.width} × {box.height} pixels is empty")
        if boxes.setdefault(image, box) != box:
            raise UserError(f"{where}: a second box for {image}: give one box for each image")
    return {tables.without_blanks(image): box for image, box in boxes.items()} | boxes
