"""Decodes an image file of any format that is taken to upright RGB pixels."""

import io
import warnings

import numpy as np
from PIL import Image

from fv.conversion import jpeg, passed_over

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "WEBP", "TIFF", "GIF")  # the only decoders of Pillow that a file can reach
_WHITE = 255  # shows where an image is transparent

Image.MAX_IMAGE_PIXELS = None  # `max_pixels` takes its place, and refuses where Pillow would warn


class BadImage(Exception):
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
            return to_rgb(_open(data, max_pixels))
    except BadImage:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged bytes
        raise BadImage(f"damaged: {error or type(error).__name__}") from error


def to_rgb(image: Image.Image) -> np.ndarray:
    """Pixels of a Pillow image: transparency on white, 16 bits a channel as 8, EXIF orientation applied.

    Args:
      image: any image of Pillow's; of several frames the current one.

    Returns:
      uint8 [height, width, 3], RGB, upright.

    Raises:
      BadImage: its pixels have no known range.
    """
    bits = _png_bits(image)
    image.load()
    pixels = _flatten(image, bits)
    if image.format == "GIF" and image.tell() == 0:
        pixels = _on_screen(pixels, image.dispose_extent)
    exif = image.info.get("exif") if image.format != "TIFF" else None  # Pillow has turned a TIFF upright
    return turn_upright(pixels, jpeg.read_orientation(exif)) if exif else pixels


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns pixels [height, width, 3] of an EXIF orientation, 1 to 8, upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


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
        described = passed_over.describe(data)
        raise BadImage(f"not an image that fv reads: {described}" if described else "not an image") from error
    check_size(image.width, image.height, max_pixels)
    return image


def _png_bits(image: Image.Image) -> int:
    """Bits of a sample in the PNG file of an image that is not loaded yet; 8 where that is not known."""
    tiles = image.tile if image.format == "PNG" else []
    bits = str(tiles[0].args).partition(";")[2].rstrip("B") if tiles else ""
    return int(bits) if bits.isdecimal() else 8


def _flatten(image: Image.Image, bits: int) -> np.ndarray:
    """Lays an image on white; uint8 [height, width, 3]."""
    if image.mode == "F":
        raise BadImage("floating-point pixels, whose range is not known")
    key = image.info.get("transparency")
    if image.mode.startswith("I"):
        return _on_white_where(_scale_16_bits(image), np.asarray(image) == key)
    if image.format == "PNG" and image.mode in ("1", "L", "RGB") and key is not None:
        return _flatten_key(image, key, bits)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (_WHITE,) * 4), image)
    return np.asarray(image.convert("RGB"))


def _flatten_key(image: Image.Image, key: int | tuple[int, ...], bits: int) -> np.ndarray:
    """As `_flatten`, of a PNG with one transparent colour, which the file gives in its own bits: Pillow forgets that."""
    pixels = np.asarray(image.convert("RGB"))
    shown = np.asarray(key) >> 8 if bits == 16 else np.asarray(key) * (255 // (2**bits - 1))
    return _on_white_where(pixels, (pixels == shown).all(axis=2))


def _scale_16_bits(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise BadImage("more than 16 bits a pixel")
    return (pixels // 257).astype(np.uint8)[..., np.newaxis].repeat(3, axis=2)


def _on_white_where(pixels: np.ndarray, clear: np.ndarray) -> np.ndarray:
    return np.where(clear[..., np.newaxis], np.uint8(_WHITE), pixels)


def _on_screen(pixels: np.ndarray, frame: tuple[int, int, int, int]) -> np.ndarray:
    """Shows white around a GIF's first frame, (left, top, right, bottom), where its screen is larger."""
    left, top, right, bottom = frame
    outside = np.ones(pixels.shape[:2], bool)
    outside[top:bottom, left:right] = False
    return _on_white_where(pixels, outside) if outside.any() else pixels
