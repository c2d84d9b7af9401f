"""Decodes an image file of any format that is taken to upright RGB pixels."""

import contextlib
import io
import warnings
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image

from fv.conversion import jpeg, passed_over

FORMATS = (
    "JPEG",
    "PNG",
    "PPM",
    "BMP",
    "WEBP",
    "TIFF",
    "GIF",
)  # the only decoders of Pillow that a file can reach
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_ORIENTATION, _TIFF_SAMPLE_FORMAT = 258, 262, 274, 339  # tags
_TIFF_WHITE_IS_ZERO, _TIFF_UNSIGNED = 0, 1
_PNG_START = b"\x89PNG\r\n\x1a\n"
_WHITE = 255  # shows where an image is transparent

_TAKEN = (
    "PNG",
    "GIF",
    "TIFF",
    "BMP",
    "WebP",
    "PNM",
)  # `FORMATS`, as `passed_over.recognise` calls them

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
    with _refuse_damaged():
        return to_rgb(_open(data, max_pixels))


def to_rgb(image: Image.Image) -> np.ndarray:
    """Pixels of a Pillow image: transparency on white, 16 bits a channel as 8, EXIF orientation applied.

    Args:
      image: any image of Pillow's; of several frames the current one.

    Returns:
      uint8 [height, width, 3], RGB, upright.

    Raises:
      BadImage: it does not decode, was closed, or its pixels have no known range.
    """
    with _refuse_damaged():
        return _to_rgb(image)


def _to_rgb(image: Image.Image) -> np.ndarray:
    is_tiff = image.format == "TIFF"
    bits, orientation = _png_bits(image), _tiff_orientation(image) if is_tiff else None
    image.load()
    pixels = _flatten(image, bits)
    if image.format == "GIF" and image.tell() == 0:
        pixels = _on_screen(pixels, image.dispose_extent)
    if not is_tiff:  # of a PNG it may stand behind the pixels
        orientation = jpeg.read_orientation(image.info.get("exif", b""))
    return turn_upright(pixels, orientation)


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
        raise BadImage(
            f"{width} × {height} pixels, more than the {max_pixels / 1e6:g} million of --max_megapixels"
        )


@contextlib.contextmanager
def _refuse_damaged() -> Iterator[None]:
    """Makes every error of Pillow's a `BadImage`: its plugins raise nearly anything on damaged bytes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is not used
            yield
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(f"damaged: {error or type(error).__name__}") from error


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """Reads the header only, so that a huge image is refused before it takes memory."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise BadImage(_describe(data)) from error
    check_size(image.width, image.height, max_pixels)
    if image.format == "PNG":
        _require_whole_png(data)
    return image


def _require_whole_png(data: bytes) -> None:
    """Checks what Pillow does not and libpng does: that the file ends, and the checksums of pixels and palette.

    Source: PNG (Third Edition, 2025), 5.3 to 5.6.
    """
    at, name = len(_PNG_START), b""
    while name != b"IEND":
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(data):
            raise BadImage("damaged PNG: cut short")
        is_needed = not name[0] & 0x20
        if is_needed and zlib.crc32(data[at + 4 : end]) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            raise BadImage(f"damaged PNG: its part {name.decode('latin-1')} has a wrong checksum")
        at = end + 4


def _describe(data: bytes) -> str:
    """What is wrong with a file that no decoder takes."""
    format = passed_over.recognise(data)
    if format in _TAKEN:
        return f"damaged {format}, or of a kind that fv does not read: save it as PNG with a program that opens it"
    described = passed_over.describe(data)
    return f"not an image that fv reads: {described}" if described else "not an image"


def _tiff_orientation(image: Image.Image) -> int:
    """What is left to turn of a TIFF that is not loaded yet: Pillow turns it upright, unless the tag is a BYTE."""
    value = image.tag_v2.get(_TIFF_ORIENTATION)
    return (
        value[0]
        if isinstance(value, bytes) and len(value) == 1 and 1 <= value[0] <= 8
        else jpeg.UPRIGHT
    )


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
    if image.mode == "La":  # Pillow converts it to LA alone
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (_WHITE,) * 4), image)
    return np.asarray(image.convert("RGB"))


def _flatten_key(image: Image.Image, key: int | tuple[int, ...], bits: int) -> np.ndarray:
    """As `_flatten`, of a PNG with one transparent colour, which the file gives in its own bits: Pillow forgets that."""
    pixels = np.asarray(image.convert("RGB"))
    shown = (
        np.asarray(key) >> 8
        if bits == 16 or np.max(key) > 0xFF
        else np.asarray(key) * (255 // (2**bits - 1))
    )
    return _on_white_where(pixels, (pixels == shown).all(axis=2))


def _scale_16_bits(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image).astype(np.int64)
    if image.format == "TIFF":
        pixels = _spread_tiff(pixels, image.tag_v2)
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise BadImage("more than 16 bits a pixel")
    return (pixels // 257).astype(np.uint8)[..., np.newaxis].repeat(3, axis=2)


def _spread_tiff(pixels: np.ndarray, tags: Mapping[int, object]) -> np.ndarray:
    """Makes 16 bits with black as 0 of a TIFF's grey levels, which Pillow leaves as they stand in the file."""
    if tags.get(_TIFF_SAMPLE_FORMAT, (_TIFF_UNSIGNED,)) != (_TIFF_UNSIGNED,):
        raise BadImage("signed pixels, whose range is not known")
    bits = tags.get(_TIFF_BITS, (16,))[0]
    if bits < 16:
        pixels = pixels * 0xFFFF // (2**bits - 1)
    return 0xFFFF - pixels if tags.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO else pixels


def _on_white_where(pixels: np.ndarray, clear: np.ndarray) -> np.ndarray:
    return np.where(clear[..., np.newaxis], np.uint8(_WHITE), pixels)


def _on_screen(pixels: np.ndarray, frame: tuple[int, int, int, int]) -> np.ndarray:
    """Shows white around a GIF's first frame, (left, top, right, bottom), where its screen is larger."""
    left, top, right, bottom = frame
    outside = np.ones(pixels.shape[:2], bool)
    outside[top:bottom, left:right] = False
    return _on_white_where(pixels, outside) if outside.any() else pixels
