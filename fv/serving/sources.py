"""Turns what callers have for an image into the bytes that the exported graph decodes."""

import io
import os

import numpy as np
from PIL import Image

from fv.conversion import formats, jpeg
from fv.errors import UserError
from fv.serving import decoding

_DECODED_BY_GRAPH = (jpeg.START, decoding.PNG, decoding.GIF)
ImageSource = str | os.PathLike | bytes | np.ndarray | Image.Image
TAKEN = "a path, bytes, a uint8 array [height, width, 3 or 4] or [height, width], or a PIL image"


def encode(image: ImageSource, max_pixels: int) -> bytes:
    """Bytes that the graph decodes: a file's own if it is a JPEG, PNG or GIF, else a PNG of its pixels.

    The converter's code decodes what the graph does not (BMP, WebP, TIFF, PPM, PGM) and PIL images.

    Args:
      image: path of an image file; its bytes; uint8 array [height, width, 3] in RGB, [height, width, 4] with opacity, or
        [height, width] in grey; or a PIL image, whose EXIF orientation is applied.
      max_pixels: most pixels that an image decoded here may have.

    Raises:
      UserError: none of these, a path that is no file, or an image that does not decode.
    """
    if isinstance(image, np.ndarray):
        return _encode_array(image)
    try:
        if isinstance(image, bytes):
            return _normalise(image, max_pixels)
        if isinstance(image, str | os.PathLike):
            return _normalise(_read(os.fspath(image)), max_pixels)
        if isinstance(image, Image.Image):
            formats.check_size(
                image.width, image.height, max_pixels
            )  # before a lazy image takes memory
            return _encode_pixels(formats.to_rgb(image))
    except formats.BadImage as error:
        raise UserError(f"{name(image)} cannot be used: {error}") from error
    raise UserError(f"{type(image).__name__} is no image: give {TAKEN}")


def name(image: ImageSource) -> str:
    """What an image is called in a message."""
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    if isinstance(image, bytes):
        return f"an image of {len(image):,} bytes"
    return "an array" if isinstance(image, np.ndarray) else "a PIL image"


def is_batch(images: object) -> bool:
    """Whether this is a list or tuple of images, or a uint8 array [batch, height, width, 3 or 4]."""
    return isinstance(images, list | tuple) or (isinstance(images, np.ndarray) and images.ndim == 4)


def _read(path: str) -> bytes:
    if not os.path.isfile(path):
        raise UserError(f"{path} is no file")
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _normalise(data: bytes, max_pixels: int) -> bytes:
    if not data or (data.startswith(_DECODED_BY_GRAPH) and not jpeg.is_cmyk_without_adobe(data)):
        return data  # the graph refuses what is empty
    return _encode_pixels(formats.decode(data, max_pixels))


def _encode_array(image: np.ndarray) -> bytes:
    channels = image.shape[2] if image.ndim == 3 else None
    if (
        image.dtype != np.uint8
        or image.ndim not in (2, 3)
        or channels not in (None, 3, 4)
        or 0 in image.shape
    ):
        raise UserError(f"an array {image.dtype} {list(image.shape)} is no image: give {TAKEN}")
    return _encode_pixels(image)


def _encode_pixels(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    # A higher level takes longer than the network.
    Image.fromarray(np.ascontiguousarray(pixels)).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()
