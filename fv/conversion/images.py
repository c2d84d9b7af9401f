"""From a file's bytes to sound JPEG bytes: untouched where they are that already, normalised once where they are not."""

import dataclasses
import io
import warnings

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from fv.conversion import jpeg

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "WEBP", "TIFF", "GIF")  # the only decoders of Pillow that a file can reach
_BACKGROUND = (255, 255, 255, 255)  # shows where an image is transparent

Image.MAX_IMAGE_PIXELS = None  # `Rules.max_pixels` takes its place, and refuses where Pillow would warn


class BadImage(ValueError):
    """The bytes are no image that can be used; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """What an image may be and becomes: most pixels it may have, and the quality (1 to 100) where it is written anew."""

    max_pixels: int
    jpeg_quality: int


def to_jpeg(data: bytes, rules: Rules) -> bytes:
    """Decodes an image whole and returns JPEG bytes that every JPEG decoder reads the same way.

    Baseline and progressive JPEG, RGB or grey, upright, comes back untouched. All else becomes RGB JPEG without chroma
    subsampling: transparency on white, the first frame of several, 16 bits a channel scaled to 8, EXIF rotation applied.

    Args:
      data: the file's bytes.
      rules: limits and quality.

    Raises:
      BadImage: empty, cut short, damaged, too large or not an image.
    """
    if not data:
        raise BadImage("empty file")
    if data.startswith(jpeg.START):
        head = _check_jpeg(data, rules)
        if head.plain and head.orientation == 1:
            return data
    return _normalise(data, rules)


def _check_jpeg(data: bytes, rules: Rules) -> jpeg.Head:
    """Decodes a JPEG in strict mode: libjpeg alone pads a file that was cut short with grey and says nothing."""
    try:
        head = jpeg.read_head(data)
        _check_size(head.width, head.height, rules)
        if head.plain:
            simplejpeg.decode_jpeg(data, "RGB", strict=True)
        elif b"\xff\xd9" not in data[-1024:]:  # the end marker; a few bytes of padding may follow it
            raise ValueError("no end marker")
        return head
    except BadImage:
        raise
    except ValueError as error:
        raise BadImage(f"damaged JPEG: {error}") from error


def _normalise(data: bytes, rules: Rules) -> bytes:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is not used
            image = _open(data, rules)
            image.load()
            rgb = _to_rgb(ImageOps.exif_transpose(image))
    except BadImage:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged bytes
        raise BadImage(f"damaged: {error or type(error).__name__}") from error
    encoded = io.BytesIO()
    rgb.save(encoded, "JPEG", quality=rules.jpeg_quality, subsampling="4:4:4")
    return encoded.getvalue()


def _open(data: bytes, rules: Rules) -> Image.Image:
    """Reads the header only, so that a huge image is refused before it takes memory."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise BadImage("not an image") from error
    _check_size(image.width, image.height, rules)
    return image


def _check_size(width: int, height: int, rules: Rules) -> None:
    if width < 1 or height < 1:
        raise BadImage(f"{width} × {height} pixels")
    if width * height > rules.max_pixels:
        raise BadImage(f"{width} × {height} pixels, more than the {rules.max_pixels / 1e6:g} million of --max_megapixels")


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
