"""Turns the images that callers give into bytes that the exported graph decodes."""

import io
import os
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
from PIL import Image

from fv.conversion import formats, jpeg
from fv.errors import UserError
from fv.serving import contract

ImageSource = str | os.PathLike | bytes | np.ndarray | Image.Image
Batch = Sequence[ImageSource] | np.ndarray
_TAKEN = "a path, bytes, a uint8 array [height, width, 3 or 4] or [height, width], or a PIL image"
_DECODED_BY_GRAPH = (contract.JPEG, contract.PNG, contract.GIF)


def encode(image: ImageSource, max_pixels: int) -> bytes:
    """Returns the bytes of a JPEG, PNG or GIF as they are, and any other image as a PNG.

    The converter's code decodes PIL images and what the graph does not (BMP, WebP, TIFF, PPM, PGM).

    Args:
      image: path of an image file; its bytes; uint8 array [height, width, 3] in RGB, [height,
        width, 4] with opacity, or [height, width] in grey; or a PIL image, whose EXIF orientation
        is applied.
      max_pixels: the most pixels that an image decoded here may have.

    Raises:
      UserError: none of these, a path that is no file, or an image that does not decode.
    """
    try:
        if isinstance(image, np.ndarray):
            return _encode_pixels(_check_array(image))
        if isinstance(image, bytes):
            return _encode_file(image, max_pixels)
        if isinstance(image, str | os.PathLike):
            return _encode_file(_read(os.fspath(image)), max_pixels)
        if isinstance(image, Image.Image):
            # Checked before a lazy image takes memory.
            formats.check_size(image.width, image.height, max_pixels)
            return _encode_pixels(formats.to_rgb(image))
    except formats.BadImage as error:
        raise UserError(f"{name(image)} cannot be used: {error}") from error
    raise UserError(f"{type(image).__name__} is no image: give {_TAKEN}")


def name(image: ImageSource) -> str:
    """What an image is called in a message."""
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    if isinstance(image, bytes):
        return f"an image of {len(image):,} bytes"
    return "an array" if isinstance(image, np.ndarray) else "a PIL image"


def count_pixels(image: bytes | np.ndarray) -> int:
    """Pixels of an encoded image according to its header, or of an array; 0 for what is none."""
    if isinstance(image, np.ndarray):
        return image.shape[0] * image.shape[1] if image.ndim == 3 else 0
    try:
        with Image.open(io.BytesIO(image), formats=("JPEG", "PNG", "BMP", "GIF")) as opened:
            return opened.width * opened.height
    except Exception:  # Pillow's plugins raise what they like on damaged files
        return 0


def as_batch(images: ImageSource | Batch) -> list[ImageSource]:
    """The images of a batch, or a single image as a batch of one."""
    return list(images) if is_batch(images) else [images]  # type: ignore[list-item]


def is_batch(images: ImageSource | Batch) -> TypeGuard[Batch]:
    """Whether this is a list or tuple of images, or an array [batch, height, width, 3 or 4]."""
    return isinstance(images, list | tuple) or (isinstance(images, np.ndarray) and images.ndim == 4)


def _read(path: str) -> bytes:
    if not os.path.isfile(path):
        raise UserError(f"{path} is no file")
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _encode_file(data: bytes, max_pixels: int) -> bytes:
    # The graph itself refuses an empty file.
    if not data or (data.startswith(_DECODED_BY_GRAPH) and not jpeg.is_cmyk_without_adobe(data)):
        return data
    return _encode_pixels(formats.decode(data, max_pixels))


def _check_array(image: np.ndarray) -> np.ndarray:
    is_image = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
    if image.dtype != np.uint8 or not is_image or 0 in image.shape:
        raise UserError(f"an array {image.dtype} {list(image.shape)} is no image: give {_TAKEN}")
    return image


def _encode_pixels(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    # A higher level takes longer than the network.
    Image.fromarray(np.ascontiguousarray(pixels)).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()
