"""Reads image files: pixels of all accepted formats, with Pillow, and the structure of a JPEG.

Source of the structure: ITU-T T.81 (1992), annex B; JEITA CP-3451 (Exif 2.3), 4.5 and 4.6.
"""

import contextlib
import dataclasses
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import GifImagePlugin, Image, ImageFile, TiffImagePlugin

from fv.conversion import folders

# A file reaches no other decoder of Pillow.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "WEBP", "TIFF", "GIF")
_RECOGNISED = ("PNG", "PNM", "BMP", "WebP", "TIFF", "GIF")  # as `folders.recognise` names them

_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_ORIENTATION, _TIFF_SAMPLE_FORMAT = 258, 262, 274, 339  # tags
_TIFF_WHITE_IS_ZERO, _TIFF_UNSIGNED = 0, 1
_PNG_START = b"\x89PNG\r\n\x1a\n"
_WHITE = 255  # shows where an image is transparent

JPEG_START = b"\xff\xd8\xff"
ADOBE = b"Adobe"  # names the segment that says how CMYK is stored
CMYK = 4  # components
UPRIGHT = 1  # EXIF orientation
MAX_JPEG_SIDE = 65_500  # pixels, of libjpeg; the format itself allows 65,535

_FILL = b"\xff\xff"  # any number of 0xFF may stand before a marker
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, one per coding process
_PLAIN_SOF = (0xC0, 0xC1, 0xC2)  # Huffman-coded baseline, extended sequential, progressive
_SEQUENTIAL_SOF = (0xC0, 0xC1)
_WHOLE_SCAN = b"\x00\x3f\x00"  # first and last coefficient, and bit positions, of a sequential scan
_JFIF, _JFIF_MAJOR = b"JFIF\0", 1
_APP0, _APP1, _SOS, _EOI = 0xE0, 0xE1, 0xDA, 0xD9
_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # not stuffing, restart or fill
_EXIF = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
_IFD_ENTRY_BYTES = 12
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # EXIF types BYTE, SHORT, LONG

Image.MAX_IMAGE_PIXELS = None  # `max_pixels` takes its place, and refuses where Pillow would warn


class BadImage(Exception):
    """The bytes are no image that can be used; the message is the reason."""


def decode(data: bytes, max_pixels: int) -> np.ndarray:
    """Decodes an image of any of `FORMATS` as `to_rgb`; of several frames the first.

    More than `max_pixels` are refused before they take memory.

    Raises:
      BadImage: not an image, cut short, damaged or too large.
    """
    with _refuse_damaged():
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)  # reads the header only
        except Image.UnidentifiedImageError as error:
            raise BadImage(_explain_unidentified(data)) from error
        check_size(image.width, image.height, max_pixels)
        if image.format == "PNG":
            _require_whole_png(data)
        return to_rgb(image)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Pixels of a Pillow image: transparency on white, 16 bits a channel as 8, orientation applied.

    Returns:
      uint8 [height, width, 3], RGB, upright; of several frames the current one.

    Raises:
      BadImage: it does not decode, was closed, or its pixels have no known range.
    """
    with _refuse_damaged():
        bits, orientation = _png_bits(image), None
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            orientation = _tiff_orientation(image)
        image.load()  # which forgets the bits of a PNG, and the orientation of a TIFF
        pixels = _flatten(image, bits)
        if isinstance(image, GifImagePlugin.GifImageFile) and image.tell() == 0:
            pixels = _show_screen(pixels, image)
        if orientation is None:  # in a PNG it may stand behind the pixels
            orientation = read_orientation(image.info.get("exif", b""))
        return turn_upright(pixels, orientation)


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns pixels [height, width, 3] of an EXIF orientation, 1 to 8, upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Checks the size in an image's header.

    Raises:
      BadImage: no pixel, or more than `max_pixels`.
    """
    size = f"{width} × {height} pixels"
    if width < 1 or height < 1:
        raise BadImage(size)
    if width * height > max_pixels:
        raise BadImage(f"{size}, more than the {max_pixels / 1e6:g} million of --max_megapixels")


@contextlib.contextmanager
def _refuse_damaged() -> Iterator[None]:
    """Makes every error of Pillow's a `BadImage`: damaged bytes make it raise nearly anything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is not used
            yield
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(f"damaged: {error or type(error).__name__}") from error


def _explain_unidentified(data: bytes) -> str:
    format = folders.recognise(data)
    if format in _RECOGNISED:
        advice = "save it as PNG with a program that opens it"
        return f"damaged {format}, or of a kind that fv does not read: {advice}"
    if format in folders.CONVERT:
        return f"not an image that fv reads: {format} data: {folders.CONVERT[format]}"
    return "not an image"


def _require_whole_png(data: bytes) -> None:
    """Checks what libpng checks and Pillow does not: the end, and the checksums of needed chunks.

    Source: PNG (Third Edition, 2025), 5.3 to 5.6.
    """
    at, name = len(_PNG_START), b""
    while name != b"IEND":
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(data):
            raise BadImage("damaged PNG: cut short")
        is_needed = not name[0] & 0x20
        checksum = int.from_bytes(data[end : end + 4], "big")
        if is_needed and zlib.crc32(data[at + 4 : end]) != checksum:
            raise BadImage(f"damaged PNG: its part {name.decode('latin-1')} has a wrong checksum")
        at = end + 4


def _tiff_orientation(image: TiffImagePlugin.TiffImageFile) -> int:
    """The orientation that Pillow leaves in a TIFF: it applies the tag, unless that is a BYTE."""
    value = image.tag_v2.get(_TIFF_ORIENTATION)
    if isinstance(value, bytes) and len(value) == 1 and 1 <= value[0] <= 8:
        return value[0]
    return UPRIGHT


def _png_bits(image: Image.Image) -> int:
    """Bits of a sample in the file of a PNG that is not loaded yet; 8 where that is not known."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) and image.format == "PNG" else []
    bits = str(tiles[0].args).partition(";")[2].rstrip("B") if tiles else ""
    return int(bits) if bits.isdecimal() else 8


def _flatten(image: Image.Image, bits: int) -> np.ndarray:
    """Lays an image on white: uint8 [height, width, 3]; `bits` are of a sample in its file."""
    if image.mode == "F":
        raise BadImage("floating-point pixels, whose range is not known")
    key = image.info.get("transparency")
    if image.mode.startswith("I"):
        return _whiten(_scale_16_bits(image), np.asarray(image) == key)
    if image.format == "PNG" and image.mode in ("1", "L", "RGB") and key is not None:
        # The transparent colour stands in the file's own bits; Pillow compares it with 8 bits.
        pixels, key = np.asarray(image.convert("RGB")), np.asarray(key)
        key = key >> 8 if bits == 16 or np.max(key) > 0xFF else key * (255 // (2**bits - 1))
        return _whiten(pixels, (pixels == key).all(axis=2))
    if image.mode == "La":  # Pillow converts it to LA only
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (_WHITE,) * 4), image)
    return np.asarray(image.convert("RGB"))


def _scale_16_bits(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image).astype(np.int64)
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # whose levels stand as in the file
        tags: Any = image.tag_v2
        if tags.get(_TIFF_SAMPLE_FORMAT, (_TIFF_UNSIGNED,)) != (_TIFF_UNSIGNED,):
            raise BadImage("signed pixels, whose range is not known")
        bits = tags.get(_TIFF_BITS, (16,))[0]
        if bits < 16:
            pixels = pixels * 0xFFFF // (2**bits - 1)
        if tags.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO:
            pixels = 0xFFFF - pixels
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise BadImage("more than 16 bits a pixel")
    return (pixels // 257).astype(np.uint8)[..., np.newaxis].repeat(3, axis=2)


def _whiten(pixels: np.ndarray, clear: np.ndarray) -> np.ndarray:
    return np.where(clear[..., np.newaxis], np.uint8(_WHITE), pixels)


def _show_screen(pixels: np.ndarray, image: GifImagePlugin.GifImageFile) -> np.ndarray:
    """Shows white around a GIF's first frame where its screen is larger."""
    assert image.dispose_extent  # of every loaded frame
    left, top, right, bottom = image.dispose_extent
    outside = np.ones(pixels.shape[:2], bool)
    outside[top:bottom, left:right] = False
    return _whiten(pixels, outside) if outside.any() else pixels


@dataclasses.dataclass(frozen=True)
class JpegHead:
    """The header of a JPEG.

    Attributes:
      width: in pixels, before the orientation is applied; so is `height`.
      bits: of a sample.
      components: colour channels, 1 to 4.
      plain: whether every decoder reads it: 8-bit Huffman baseline or progressive, grey or of three
        components.
      orientation: of its first EXIF segment, 1 (upright) to 8.
      scan: the byte where its first scan begins.
      repairs: (byte, bytes to put there) of header fields that strict decoders refuse and that no
        decoder needs.
    """

    width: int
    height: int
    bits: int
    components: int
    plain: bool
    orientation: int
    scan: int
    repairs: tuple[tuple[int, bytes], ...] = ()


def read_jpeg_head(data: bytes) -> JpegHead:
    """Reads the segments before the first scan.

    Raises:
      ValueError: not a JPEG, or cut short before its frame header.
    """
    frame, orientation, at = None, None, 2  # behind the marker of the start
    repairs: list[tuple[int, bytes]] = []
    try:
        while True:
            while data[at : at + 2] == _FILL:
                at += 1
            if data[at] != 0xFF:
                raise ValueError(f"damaged header at byte {at}")
            marker, length = struct.unpack_from(">BH", data, at + 1)
            end = at + 2 + length
            payload = data[at + 4 : end]
            if marker in _SOF:
                frame = (*struct.unpack_from(">BHHB", payload), marker)
            elif marker == _APP1 and payload.startswith(_EXIF) and orientation is None:
                orientation = read_orientation(payload)
            elif marker == _APP0 and payload.startswith(_JFIF):
                if payload[len(_JFIF)] != _JFIF_MAJOR:
                    repairs.append((at + 4 + len(_JFIF), bytes([_JFIF_MAJOR])))
            elif marker in (_SOS, _EOI):
                break
            at = end
    except (struct.error, IndexError):
        frame = None
    if frame is None:
        raise ValueError("cut short in its header")
    bits, height, width, components, process = frame
    plain = process in _PLAIN_SOF and bits == 8 and components in (1, 3)
    # Some phones write scan parameters that only a progressive JPEG has.
    if marker == _SOS and process in _SEQUENTIAL_SOF and not payload.endswith(_WHOLE_SCAN):
        repairs.append((end - len(_WHOLE_SCAN), _WHOLE_SCAN))
    turned = orientation or UPRIGHT
    return JpegHead(width, height, bits, components, plain, turned, at, tuple(repairs))


def repair_jpeg(data: bytes, head: JpegHead) -> bytes:
    """The file with the repairs of its header."""
    repaired = bytearray(data)
    for at, field in head.repairs:
        repaired[at : at + len(field)] = field
    return bytes(repaired)


def find_jpeg_end(data: bytes, scan: int) -> int:
    """The byte behind the end of a sound JPEG. Phones store videos and further pictures there.

    Raises:
      ValueError: there is no end marker.
    """
    # Nearly every file ends here, and a search is faster than a walk through the scans.
    if data.find(_END, scan) + len(_END) == len(data):
        return len(data)
    at = scan
    while marker := _MARKER.search(data, at):
        if marker[0] == _END:
            return marker.end()
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    raise ValueError("no end marker")


def is_cmyk_without_adobe(data: bytes) -> bool:
    """Whether a file is a CMYK JPEG without Adobe's segment.

    TensorFlow takes its ink for not inverted; other decoders take it for inverted. A damaged JPEG
    gives False.
    """
    if not data.startswith(JPEG_START) or ADOBE in data:
        return False
    try:
        return read_jpeg_head(data).components == CMYK
    except ValueError:
        return False


def read_orientation(exif: bytes) -> int:
    """The orientation in EXIF data, 1 (upright) to 8; upright where no tag holds such an integer.

    The data may begin with the name of its JPEG segment.
    """
    tiff = exif
    while tiff.startswith(_EXIF):
        tiff = tiff.removeprefix(_EXIF)
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return UPRIGHT
    try:
        (ifd,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, ifd)
        for at in range(ifd + 2, ifd + 2 + entries * _IFD_ENTRY_BYTES, _IFD_ENTRY_BYTES):
            tag, type, count = struct.unpack_from(order + "HHI", tiff, at)
            if tag == _ORIENTATION_TAG:
                (value,) = struct.unpack_from(order + _INTEGERS[type], tiff, at + 8)
                return value if count == 1 and 1 <= value <= 8 else UPRIGHT
    except (struct.error, KeyError):
        pass
    return UPRIGHT
