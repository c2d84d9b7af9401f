"""From a file's bytes, in any format that is taken, to upright RGB pixels."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "WEBP", "TIFF", "GIF")  # the only decoders of Pillow that a file can reach
_BACKGROUND = (255, 255, 255, 255)  # shows where an image is transparent

Image.MAX_IMAGE_PIXELS = None  # `max_pixels` takes its place, and refuses where Pillow would warn


class BadImage(ValueError):
    """The bytes are no image that can be used; the message is the reason."""


def decode(data: bytes, max_pixels: int) -> np.ndarray:
    """Decodes an image of any of `FORMATS`.

    Transparency shows white, the first frame stands for several, 16 bits a channel become 8, EXIF rotation is applied.

    Args:
      data: the file's bytes.
      max_pixels: most pixels it may have; more are refused before they take memory.

    Returns:
      uint8 [height, width, 3], RGB, upright.

    Raises:
      BadImage: not an image, cut short, damaged or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is not used
            image = _open(data, max_pixels)
            image.load()
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except BadImage:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged bytes
        raise BadImage(f"damaged: {error or type(error).__name__}") from error


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Checks the size that an image's header tells.

    Raises:
      BadImage: no pixel, or more than `max_pixels`.
    """
    if width < 1 or height < 1:
        raise BadImage(f"{width} × {height} pixels")
    if width * height > max_pixels:
        raise BadImage(f"{width} × {height} pixels, more than the {max_pixels / 1e6:g} million of --max_megapixels")


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """Reads the header only, so that a huge image is refused before it takes memory."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise BadImage("not an image") from error
    check_size(image.width, image.height, max_pixels)
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode == "F":
        raise BadImage("floating-point pixels, whose range is not known")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _BACKGROUND), image)
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise BadImage("more than 16 bits a pixel")
    return Image.fromarray((pixels // 257).astype(np.uint8)).convert("RGB")
