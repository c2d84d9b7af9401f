"""The conformance corpus: image files of every kind, with the pixels that each has to decode to.

`python -m tests.conformance` runs all of it through every entry point that takes an image file,
prints the table of docs/serve.md and exits with 1 if an entry point differs.
`tests/serving/test_conformance.py` runs the small files.

The wanted pixels never come from a decoder that fv uses. Those of lossless files are the pixels
that were written. Those of lossy files come from OpenCV, and the script applies the orientation
that it wrote.
"""

import base64
import dataclasses
import functools
import hashlib
import io
import itertools
import pathlib
import struct
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterable, Mapping

import cv2
import numpy as np
import simplejpeg
import tensorflow as tf
from PIL import Image

from fv import image_ops
from fv.conversion import image_files, storage
from fv.conversion import options as options_module
from fv.errors import UserError
from fv.preprocessing import Preprocessing
from fv.serving import decoding, image_inputs

WIDTH, HEIGHT = 56, 40
LARGE = (4000, 3000)
ORIENTATION = 0x0112
BYTE, SHORT, LONG = 1, 3, 4  # EXIF types
RGB, RGBA, GREY, GREY_ALPHA, PALETTE = 2, 6, 0, 4, 3  # PNG colour types
TOLERANCE = 1  # levels
_ICC = bytes(128)  # a colour profile, which nobody applies
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
# `jpegtran -arithmetic` and `jpegtran -arithmetic -progressive` of the picture at quality 60, which
# Pillow cannot write.
_ARITHMETIC = {
    "arithmetic": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdB"
        "RkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09P"
        "T09PT09PT09PT09PT0//yQARCAAoADgDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ALDYtG7Mza34QfRS"
        "DIGA1SXM20uvLP8AvjbQoz6+LAku0cF1OzPwWRIrtX7vINi2dXACbGqLcrhrsjTrE+8aB2jvR+SItwRU9FnINbd1tHazQDr2"
        "iRbHIHbq7VFxlX7FIHydgFK0E24vtfZ/j25mF35ixA6AV8htE83UfbPE5TaiFvATiq8Iz0XHKoHvJuSNhglcsa/Yw71OYpxz"
        "rFLoPGKZ2rhT3lI2q72A4Siei9oIUQmnrru5XFInIcD/2Q=="
    ),
    "arithmetic progressive": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdB"
        "RkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09P"
        "T09PT09PT09PT09PT0//ygARCAAoADgDASIAAhEBAxEB/8wABgAQARD/2gAMAwEAAhADEAAAAf8AVbSQWmzjq6XYmSSpDMjl"
        "M5AtaKmTdFVRG0jhlPnG2FLRDW8GFBxBPpTLPWxwIvva/8wABBAF/9oACAEBAAEFAtGP9dCwNR/+Ke6OXQVBvq6T+F0I/8wA"
        "BBEF/9oACAEDAQE/AReId7AGZtEVLSnlydN2YP/MAAQRBf/aAAgBAgEBPwH/AM4zYjpNGDi3VFQQZZ9MHhlhG1fA/8wABBAF"
        "/9oACAEBAAY/ArD/zAAEEAX/2gAIAQEAAT8hFOfeokVM3weq8jkvKP/aAAwDAQACAAMAAAAQApuJrKrkrNDs/8wABBEF/9oA"
        "CAEDAQE/EEjrtnked7gIYP/MAAQRBf/aAAgBAgEBPxABqcGoqGaEua4SCYFm9wNmNGjA/8wABBAF/9oACAEBAAE/EM/UYkXC"
        "4szPhkC87ynHdAM6zGYsQ1wpTP/Z"
    ),
}


@dataclasses.dataclass(frozen=True)
class File:
    """An image file of the corpus.

    Attributes:
      group: row of the table in the guide.
      suffix: of the name of the file.
      name: what is special about it in its group.
      data: its bytes.
      wanted: uint8 [height, width, 3], RGB, upright.
    """

    group: str
    suffix: str
    name: str
    data: bytes
    wanted: np.ndarray

    def __str__(self) -> str:
        return f"{self.group}, {self.name}"


def picture(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A smooth picture without any symmetry, uint8 [height, width, 3]."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = [255 * across, 255 * down**2, 120 + 90 * np.sin(7 * across * down)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def opacity(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Opacity from 0 to 255 along the diagonal, uint8 [height, width]."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.round(255 * (across + down) / 2).astype(np.uint8)


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Pixels uint8 [height, width, 3] of an opacity uint8 [height, width], on white."""
    share = alpha[..., np.newaxis] / 255
    return np.round(pixels * share + 255 * (1 - share)).astype(np.uint8)


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels upright. Source: JEITA CP-3451 (Exif 2.3), table 6."""
    changes = {
        2: lambda image: image[:, ::-1],
        3: lambda image: image[::-1, ::-1],
        4: lambda image: image[::-1],
        5: lambda image: image.transpose(1, 0, 2),
        6: lambda image: np.rot90(image, -1),
        7: lambda image: image.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda image: np.rot90(image),
    }
    return np.ascontiguousarray(changes.get(orientation, lambda image: image)(pixels))


def tiff(orientation: int, order: str = "II", type: int = SHORT, count: int = 1) -> bytes:
    """A TIFF header with one directory that holds a maker and an orientation."""
    mark = "<" if order == "II" else ">"
    value = struct.pack(mark + {BYTE: "B", SHORT: "H", LONG: "I"}[type], orientation).ljust(
        4, b"\0"
    )
    maker = struct.pack(mark + "HHI", 0x010F, 2, 4) + b"fv.\0"
    entry = struct.pack(mark + "HHI", ORIENTATION, type, count) + value
    return order.encode() + struct.pack(mark + "HIH", 42, 8, 2) + maker + entry + bytes(4)


def grey_tiff(rows: bytes, bits: int, photometric: int = 1) -> bytes:
    """A little-endian TIFF of grey rows in one strip; of photometric 0, white is 0."""
    tags = {
        256: WIDTH,
        257: HEIGHT,
        258: bits,
        259: 1,
        262: photometric,
        273: 8,
        277: 1,
        278: HEIGHT,
        279: len(rows),
    }
    entries = b"".join(struct.pack("<HHII", tag, LONG, 1, value) for tag, value in tags.items())
    return (
        struct.pack("<2sHI", b"II", 42, 8 + len(rows))
        + rows
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )


def segment(marker: int, payload: bytes) -> bytes:
    """A JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def exif_segment(header: bytes) -> bytes:
    """The APP1 segment of a TIFF header."""
    return segment(0xE1, b"Exif\0\0" + header)


def insert(jpeg: bytes, *segments: bytes) -> bytes:
    """Puts segments behind the start of a JPEG."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def encode(pixels: np.ndarray | Image.Image, form: str, **options) -> bytes:
    """The bytes of an image file in a format of Pillow's."""
    encoded = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(encoded, form, **options)
    return encoded.getvalue()


def png(
    samples: np.ndarray,
    colour: int,
    bits: int = 8,
    interlace: bool = False,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG of samples [height, width, channels], with chunks before and after the pixels."""
    height, width, _ = samples.shape
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlace))
    passes = (
        [samples[y::down, x::across] for x, y, across, down in _ADAM7] if interlace else [samples]
    )
    rows = itertools.chain.from_iterable(part for part in passes if part.size)
    data = zlib.compress(b"".join(b"\0" + _pack(row, bits) for row in rows))
    middle = len(data) // 2
    body = chunk(b"IDAT", data[:middle]) + chunk(b"IDAT", data[middle:])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + body + after + chunk(b"IEND", b"")
    )


def chunk(name: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _pack(row: np.ndarray, bits: int) -> bytes:
    if bits == 16:
        return row.astype(">u2").tobytes()
    if bits == 8:
        return row.astype(np.uint8).tobytes()
    planes = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - bits :]
    return np.packbits(planes.ravel()).tobytes()


def bmp(
    rows: bytes,
    bits: int,
    palette: bytes = b"",
    *,
    compression: int = 0,
    masks: bytes = b"",
    height: int = HEIGHT,
    size: int = 40,
) -> bytes:
    """A BMP of encoded rows; `size` is that of its header, which may include the masks."""
    start = 14 + 40 + len(masks) + len(palette)
    info = struct.pack(
        "<IiiHHIIiiII",
        size,
        WIDTH,
        height,
        1,
        bits,
        compression,
        len(rows),
        0,
        0,
        len(palette) // 4,
        0,
    )
    return (
        b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + info + masks + palette + rows
    )


def files(large: bool = False) -> list[File]:
    """The corpus, without or with its large files."""
    groups = [
        _jpeg(),
        _jpeg_oriented(),
        _jpeg_trailers(),
        _png(),
        _png_oriented(),
        _bmp(),
        _gif(),
        _webp(),
        _tiff(),
        _pnm(),
    ]
    return [*itertools.chain(*groups), *(_large() if large else ())]


def _lossy(group: str, name: str, data: bytes, orientation: int = 1, suffix: str = ".jpg") -> File:
    stored = cv2.imdecode(
        np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    )
    return File(group, suffix, name, data, turn(stored[:, :, ::-1], orientation))


def _jpeg() -> Iterable[File]:
    baseline = functools.partial(_lossy, "JPEG, baseline")
    rgb, plain = picture(), encode(picture(), "JPEG", quality=90)
    for name in ("4:4:4", "4:2:2", "4:2:0"):
        yield baseline(name, encode(rgb, "JPEG", quality=90, subsampling=name))
    yield baseline("grey", encode(Image.fromarray(rgb).convert("L"), "JPEG"))
    yield baseline("RGB planes", encode(rgb, "JPEG", keep_rgb=True))
    yield baseline("restart markers", encode(rgb, "JPEG", restart_marker_blocks=2))
    yield baseline("colour profile", encode(rgb, "JPEG", icc_profile=_ICC))
    yield baseline("end marker in a comment", insert(plain, segment(0xFE, b"\xff\xd9\xff\xd9")))
    yield baseline(
        "fill bytes before a marker", insert(plain, b"\xff\xff\xff" + segment(0xFE, b"x"))
    )
    jfif, scan = plain.index(b"JFIF\0") + 5, plain.index(b"\xff\xda") + 11
    yield baseline("JFIF of another revision", plain[:jfif] + b"\2\1" + plain[jfif + 2 :])
    yield baseline("odd scan parameters", plain[:scan] + b"\1\x3e\0" + plain[scan + 3 :])
    yield _lossy("JPEG, progressive", "4:2:0", encode(rgb, "JPEG", progressive=True))
    yield _lossy(
        "JPEG, progressive",
        "grey",
        encode(Image.fromarray(rgb).convert("L"), "JPEG", progressive=True),
    )
    for name, text in _ARITHMETIC.items():
        yield _lossy("JPEG, arithmetic coding", name, base64.b64decode(text))
    cmyk = Image.fromarray(rgb).convert("CMYK")
    yield _lossy("JPEG, CMYK", "CMYK", encode(cmyk, "JPEG"))
    adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")
    yield _lossy(
        "JPEG, CMYK without Adobe's segment", "CMYK", encode(cmyk, "JPEG").replace(adobe, b"")
    )
    yield _lossy(
        "JPEG, CMYK", "YCCK", simplejpeg.encode_jpeg(np.asarray(cmyk).copy(), 90, "CMYK", "444")
    )


def _jpeg_oriented() -> Iterable[File]:
    lossy = functools.partial(_lossy, "JPEG, EXIF orientation")
    plain = encode(picture(), "JPEG", quality=90)
    for value in range(1, 9):
        yield lossy(f"{value}", insert(plain, exif_segment(tiff(value))), value)
    for (name, type), order in itertools.product(
        {"BYTE": BYTE, "SHORT": SHORT, "LONG": LONG}.items(), ("II", "MM")
    ):
        yield lossy(f"6 as {name}, {order}", insert(plain, exif_segment(tiff(6, order, type))), 6)
    for value in (0, 9, 300):
        yield lossy(f"no such value: {value}", insert(plain, exif_segment(tiff(value))))
    yield lossy("two values", insert(plain, exif_segment(tiff(6, count=2))))
    yield lossy("two EXIF segments", insert(plain, exif_segment(tiff(6)), exif_segment(tiff(3))), 6)
    yield lossy("its name twice", insert(plain, exif_segment(b"Exif\0\0" + tiff(6))), 6)
    yield lossy("damaged directory", insert(plain, exif_segment(tiff(6)[:20])))
    yield lossy("no TIFF header", insert(plain, exif_segment(b"II\x2b\0" + tiff(6)[4:])))
    others = [segment(0xE2, bytes(60_000))] * 6
    yield lossy("behind 360 kB of other segments", insert(plain, *others, exif_segment(tiff(8))), 8)
    progressive = encode(picture(), "JPEG", progressive=True)
    yield lossy("progressive", insert(progressive, exif_segment(tiff(5, "MM"))), 5)
    grey = encode(Image.fromarray(picture()).convert("L"), "JPEG")
    yield lossy("grey", insert(grey, exif_segment(tiff(7))), 7)
    cmyk = encode(Image.fromarray(picture()).convert("CMYK"), "JPEG")
    yield lossy("CMYK", insert(cmyk, exif_segment(tiff(6))), 6)
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
    yield lossy("in XMP alone, which is not read", insert(plain, segment(0xE1, xmp)))


def _jpeg_trailers() -> Iterable[File]:
    lossy = functools.partial(_lossy, "JPEG, data behind its end")
    plain = encode(picture(), "JPEG", quality=90)
    other = encode(255 - picture(), "JPEG")
    turned = insert(plain, exif_segment(tiff(6)))
    progressive = encode(picture(), "JPEG", progressive=True)
    trailers = {
        "zeros": bytes(3000),
        "a video": b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40,
        "a second picture": other,
    }
    for name, trailer in trailers.items():
        yield lossy(name, plain + trailer)
        yield lossy(f"{name}, turned", turned + trailer, 6)
        yield lossy(f"{name}, progressive", progressive + trailer)
    second = Image.fromarray(255 - picture())
    mpo = encode(Image.fromarray(picture()), "MPO", save_all=True, append_images=[second])
    yield lossy("MPO", mpo)


def _png() -> Iterable[File]:
    rgb, alpha = picture(), opacity()
    grey = rgb[..., :1]
    wide = np.uint16(257) * rgb
    palette = chunk(b"PLTE", bytes(range(0, 48)))
    indices = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1) // 7) % 16
    colours = np.arange(48, dtype=np.uint8).reshape(16, 3)
    file = functools.partial(File, "PNG", ".png")
    for interlace in (False, True):
        kind = ", interlaced" if interlace else ""
        yield file(f"RGB{kind}", png(rgb, RGB, interlace=interlace), rgb)
        yield file(f"grey{kind}", png(grey, GREY, interlace=interlace), grey.repeat(3, 2))
        yield file(f"RGB of 16 bits{kind}", png(wide, RGB, 16, interlace), rgb)
        yield file(
            f"grey of 16 bits{kind}", png(wide[..., :1], GREY, 16, interlace), grey.repeat(3, 2)
        )
        for bits in (1, 2, 4):
            levels = grey >> (8 - bits)
            wanted = (levels * (255 // (2**bits - 1))).repeat(3, 2).astype(np.uint8)
            yield file(f"grey of {bits} bits{kind}", png(levels, GREY, bits, interlace), wanted)
            few = indices % 2**bits
            data = png(few, PALETTE, bits, interlace, palette)
            yield file(f"palette of {bits} bits{kind}", data, colours[few[..., 0]])
        yield file(
            f"palette of 8 bits{kind}",
            png(indices, PALETTE, 8, interlace, palette),
            colours[indices[..., 0]],
        )
    profile = chunk(b"gAMA", struct.pack(">I", 100_000)) + chunk(
        b"iCCP", b"fv\0\0" + zlib.compress(_ICC)
    )
    yield file(
        "gamma and colour profile, which are not applied", png(rgb, RGB, before=profile), rgb
    )
    yield file("data behind its end", png(rgb, RGB) + bytes(5000), rgb)
    frames = [Image.fromarray(255 - rgb)]
    yield file(
        "animated: the first frame", encode(rgb, "PNG", save_all=True, append_images=frames), rgb
    )
    file = functools.partial(File, "PNG, transparency", ".png")
    yield file("RGBA", png(np.dstack([rgb, alpha]), RGBA), on_white(rgb, alpha))
    wide_alpha = np.uint16(257) * np.dstack([rgb, alpha])
    yield file("RGBA of 16 bits", png(wide_alpha, RGBA, 16), on_white(rgb, alpha))
    shown = on_white(grey.repeat(3, 2), alpha)
    yield file("grey and opacity", png(np.dstack([grey, alpha]), GREY_ALPHA), shown)
    yield file("grey and opacity of 16 bits", png(wide_alpha[..., (0, 3)], GREY_ALPHA, 16), shown)
    clear = np.where(indices == 5, 0, np.where(indices == 6, 128, 255)).astype(np.uint8)[..., 0]
    shares = chunk(b"tRNS", b"\xff" * 5 + b"\0\x80")
    yield file(
        "palette",
        png(indices, PALETTE, 8, before=palette + shares),
        on_white(colours[indices[..., 0]], clear),
    )
    long = chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + bytes(400_000))
    shown = on_white(colours[indices[..., 0]], clear)
    yield file(
        "palette behind a long text",
        png(indices, PALETTE, 8, before=long + palette + shares),
        shown,
    )
    text = chunk(b"tEXt", b"Comment\0tRNS")
    few = indices % 4
    levels = (few * 85).repeat(3, 2).astype(np.uint8)
    yield file("none, but a text that names it", png(few, GREY, 2, before=text), levels)
    one = tuple(int(value) for value in rgb[3, 9])
    key = chunk(b"tRNS", struct.pack(">HHH", *one))
    wanted = np.where((rgb == one).all(2, keepdims=True), 255, rgb).astype(np.uint8)
    yield file("one colour", png(rgb, RGB, before=key), wanted)
    wide_key = chunk(b"tRNS", struct.pack(">HHH", *(257 * value for value in one)))
    yield file("one colour of 16 bits", png(wide, RGB, 16, before=wide_key), wanted)
    level = int(grey[0, 20, 0])
    key = chunk(b"tRNS", struct.pack(">H", level))
    wanted = np.where(grey == level, 255, grey).repeat(3, 2).astype(np.uint8)
    yield file("one grey", png(grey, GREY, before=key), wanted)
    key = chunk(b"tRNS", struct.pack(">H", 257 * level))
    yield file("one grey of 16 bits", png(wide[..., :1], GREY, 16, before=key), wanted)
    four = grey >> 4
    key = chunk(b"tRNS", struct.pack(">H", 6))
    wanted = np.where(four == 6, 255, four * 17).repeat(3, 2).astype(np.uint8)
    yield file("one grey of 4 bits", png(four, GREY, 4, before=key), wanted)


def _png_oriented() -> Iterable[File]:
    rgb, alpha = picture(), opacity()
    file = functools.partial(File, "PNG, EXIF orientation", ".png")
    for value in range(1, 9):
        yield file(
            f"{value}", png(rgb, RGB, before=chunk(b"eXIf", tiff(value, "MM"))), turn(rgb, value)
        )
    behind = png(rgb, RGB, after=chunk(b"eXIf", tiff(6)))
    yield file("6 behind the pixels", behind, turn(rgb, 6))
    for (name, type), order in itertools.product(
        {"BYTE": BYTE, "LONG": LONG}.items(), ("II", "MM")
    ):
        data = png(rgb, RGB, before=chunk(b"eXIf", tiff(6, order, type)))
        yield file(f"6 as {name}, {order}", data, turn(rgb, 6))
    named = png(rgb, RGB, before=chunk(b"eXIf", b"Exif\0\0" + tiff(6)))
    yield file("6 behind the name of a JPEG's segment", named, turn(rgb, 6))
    text = png(rgb, RGB, before=chunk(b"tEXt", b"Comment\0eXIf" + tiff(6)))
    yield file("a text that names it", text, rgb)
    behind = chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + bytes(400_000)) + chunk(
        b"eXIf", tiff(6)
    )
    yield file("6 behind a long text", png(rgb, RGB, before=behind), turn(rgb, 6))
    damaged = png(rgb, RGB, before=chunk(b"eXIf", tiff(6)[:15]))
    yield file("damaged directory", damaged, rgb)
    clear = png(np.dstack([rgb, alpha]), RGBA, before=chunk(b"eXIf", tiff(8)))
    yield file("8 with transparency", clear, turn(on_white(rgb, alpha), 8))


def _bmp() -> Iterable[File]:
    rgb = picture()
    blue_first = rgb[::-1, :, ::-1]
    file = functools.partial(File, "BMP of 8, 24 or 32 bits", ".bmp")
    yield file("24 bits", encode(rgb, "BMP"), rgb)
    yield file("24 bits, top row first", bmp(rgb[:, :, ::-1].tobytes(), 24, height=-HEIGHT), rgb)
    yield file("grey", encode(rgb[..., 0], "BMP"), rgb[..., :1].repeat(3, 2))
    colours = np.arange(1024, dtype=np.uint8).reshape(256, 4)
    indices = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) // 7 % 256).astype(np.uint8)
    wanted = colours[indices][..., 2::-1]
    yield file("palette", bmp(indices[::-1].tobytes(), 8, colours.tobytes()), wanted)
    filled = np.dstack([blue_first, np.full((HEIGHT, WIDTH), 77, np.uint8)])
    yield file("32 bits, the fourth byte is not opacity", bmp(filled.tobytes(), 32), rgb)
    clear = np.dstack([blue_first, opacity()[::-1]])
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    shown = on_white(rgb, opacity())
    yield file(
        "32 bits with opacity",
        bmp(clear.tobytes(), 32, compression=3, masks=masks, size=108),
        shown,
    )
    file = functools.partial(File, "BMP, other", ".bmp")
    few = indices % 16
    rows = np.stack([few[::-1, ::2] << 4 | few[::-1, 1::2]])
    yield file("4 bits", bmp(rows.tobytes(), 4, colours[:16].tobytes()), colours[few][..., 2::-1])
    black = np.packbits(indices[::-1] % 2, axis=1)
    padded = np.pad(black, ((0, 0), (0, -black.shape[1] % 4)))
    two = np.array([[0, 0, 0, 0], [255, 255, 255, 0]], np.uint8)
    yield file("1 bit", bmp(padded.tobytes(), 1, two.tobytes()), two[indices % 2][..., 2::-1])
    runs = (
        b"".join(b"".join(bytes((1, index)) for index in row) + b"\0\0" for row in indices[::-1])
        + b"\0\1"
    )
    yield file("run lengths", bmp(runs, 8, colours.tobytes(), compression=1), wanted)
    red, green, blue = (rgb[::-1].astype(np.uint16) >> (3, 2, 3)).transpose(2, 0, 1)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    packed = (red << 11 | green << 5 | blue).astype("<u2")
    five = (rgb >> 3).astype(int)
    six = (rgb[..., 1:2] >> 2).astype(int)
    spread = np.round(
        np.concatenate([five[..., :1] / 31, six / 63, five[..., 2:] / 31], -1) * 255
    ).astype(np.uint8)
    yield file("16 bits", bmp(packed.tobytes(), 16, compression=3, masks=masks), spread)


def gif(indices: np.ndarray, colours: np.ndarray, **options) -> bytes:
    """A GIF of palette indices, uint8 [height, width], and colours, uint8 [n, 3]."""
    image = Image.fromarray(indices.astype(np.uint8), "L")
    image.putpalette(colours.tobytes())
    return encode(image, "GIF", optimize=False, **options)


def _gif() -> Iterable[File]:
    colours = np.random.default_rng(0).integers(0, 200, (16, 3)).astype(np.uint8)
    indices = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) // 7) % 16
    rgb, clear = colours[indices], np.where(indices == 5, 0, 255).astype(np.uint8)
    file = functools.partial(File, "GIF: the first frame", ".gif")
    yield file("rows in order", gif(indices, colours, interlace=0), rgb)
    yield file("interlaced", gif(indices, colours, interlace=1), rgb)
    other = Image.fromarray(255 - rgb)
    animated = gif(indices, colours, save_all=True, append_images=[other.quantize(16)])
    yield file("animated", animated, rgb)
    yield file("transparency", gif(indices, colours, transparency=5), on_white(rgb, clear))
    moving = gif(
        indices,
        colours,
        transparency=5,
        save_all=True,
        append_images=[other.quantize(16)],
        disposal=2,
    )
    yield file("animated with transparency", moving, on_white(rgb, clear))
    for name, options in {"": {}, " with transparency": {"transparency": 5}}.items():
        shown = on_white(rgb, clear) if options else rgb
        canvas = np.full((HEIGHT + 12, WIDTH + 20, 3), 255, np.uint8)
        canvas[3 : 3 + HEIGHT, 7 : 7 + WIDTH] = shown
        yield file(
            f"smaller than its screen{name}", _on_screen(gif(indices, colours, **options)), canvas
        )
    yield file("data behind its end", gif(indices, colours) + bytes(5000), rgb)


def _on_screen(data: bytes) -> bytes:
    """The GIF with its frame at (7, 3) of a screen that is 20 pixels wider and 12 higher."""
    at = data.index(b"," + bytes(4))
    frame = b"," + struct.pack("<HH", 7, 3)
    return (
        data[:6]
        + struct.pack("<HH", WIDTH + 20, HEIGHT + 12)
        + data[10:at]
        + frame
        + data[at + 5 :]
    )


def _webp() -> Iterable[File]:
    rgb, alpha = picture(), opacity()
    file = functools.partial(File, "WebP", ".webp")
    yield _lossy("WebP", "lossy", encode(rgb, "WEBP"), suffix=".webp")
    yield file("lossless", encode(rgb, "WEBP", lossless=True), rgb)
    rgba = np.dstack([rgb, alpha])
    yield file("opacity", encode(rgba, "WEBP", lossless=True, exact=True), on_white(rgb, alpha))
    frames = [Image.fromarray(255 - rgb)]
    data = encode(rgb, "WEBP", lossless=True, save_all=True, append_images=frames)
    yield file("animated: the first frame", data, rgb)
    for value, order in ((6, "II"), (7, "MM")):
        exif = b"Exif\0\0" + tiff(value, order)
        yield file(
            f"EXIF orientation {value}",
            encode(rgb, "WEBP", lossless=True, exif=exif),
            turn(rgb, value),
        )


def _tiff() -> Iterable[File]:
    rgb, alpha = picture(), opacity()
    file = functools.partial(File, "TIFF", ".tif")
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits"):
        yield file(compression, encode(rgb, "TIFF", compression=compression), rgb)
    yield file("grey", encode(rgb[..., 0], "TIFF"), rgb[..., :1].repeat(3, 2))
    wide = rgb[..., 0].astype(np.uint16) * 257
    yield file("grey of 16 bits", encode(wide, "TIFF"), rgb[..., :1].repeat(3, 2))
    flipped = (0xFFFF - wide).astype("<u2").tobytes()
    data = grey_tiff(flipped, 16, photometric=0)
    yield file("grey of 16 bits, white is 0", data, rgb[..., :1].repeat(3, 2))
    twelve = np.round(rgb[..., 0] / 255 * 4095).astype(int).reshape(HEIGHT, -1, 2)
    packed = (
        (twelve[..., 0] << 12 | twelve[..., 1])
        .astype(">u4")
        .reshape(HEIGHT, -1, 1)
        .view(np.uint8)[..., 1:]
    )
    yield file("grey of 12 bits", grey_tiff(packed.tobytes(), 12), rgb[..., :1].repeat(3, 2))
    colours = _encode_cv(".tif", np.uint16(257) * rgb)
    yield file("RGB of 16 bits", colours, rgb)
    yield file("opacity", encode(np.dstack([rgb, alpha]), "TIFF"), on_white(rgb, alpha))
    frames = [Image.fromarray(255 - rgb)]
    data = encode(rgb, "TIFF", save_all=True, append_images=frames)
    yield file("several pages: the first", data, rgb)
    for value in (3, 6, 7):
        data = encode(rgb, "TIFF", tiffinfo={ORIENTATION: value})
        yield file(f"orientation {value}", data, turn(rgb, value))
        short = struct.pack("<HHII", ORIENTATION, SHORT, 1, value)
        for name, type in (("BYTE", BYTE), ("LONG", LONG)):
            changed = data.replace(short, struct.pack("<HHII", ORIENTATION, type, 1, value))
            yield file(f"orientation {value} as {name}", changed, turn(rgb, value))


def _encode_cv(suffix: str, pixels: np.ndarray) -> bytes:
    return cv2.imencode(suffix, np.ascontiguousarray(pixels[:, :, ::-1]))[1].tobytes()


def _pnm() -> Iterable[File]:
    rgb = picture()
    grey = rgb[..., 0]
    group = "PPM, PGM"
    size = b"%d %d " % (WIDTH, HEIGHT)
    yield File(group, ".ppm", "PPM", b"P6 " + size + b"255\n" + rgb.tobytes(), rgb)
    yield File(
        group, ".ppm", "PPM with a comment", b"P6\n# fv\n" + size + b"255\n" + rgb.tobytes(), rgb
    )
    text = " ".join(map(str, rgb.ravel())).encode()
    yield File(group, ".pnm", "PPM of text", b"P3 " + size + b"255\n" + text, rgb)
    yield File(
        group,
        ".pgm",
        "PGM",
        b"P5 " + size + b"255\n" + grey.tobytes(),
        grey[..., None].repeat(3, 2),
    )
    wide = (grey.astype(">u2") * 257).astype(">u2")
    yield File(
        group,
        ".pgm",
        "PGM of 16 bits",
        b"P5 " + size + b"65535\n" + wide.tobytes(),
        grey[..., None].repeat(3, 2),
    )


def _large() -> Iterable[File]:
    rgb = picture(*LARGE)
    yield _lossy("JPEG, baseline", "12 million pixels", encode(rgb, "JPEG", quality=90))
    turned = insert(encode(rgb, "JPEG", quality=90), exif_segment(tiff(6)))
    yield _lossy("JPEG, EXIF orientation", "12 million pixels", turned, 6)
    yield _lossy("JPEG, progressive", "12 million pixels", encode(rgb, "JPEG", progressive=True))
    yield File("PNG", ".png", "12 million pixels", encode(rgb, "PNG", compress_level=1), rgb)
    yield File("TIFF", ".tif", "12 million pixels", encode(rgb, "TIFF"), rgb)


# Of the network's input. Nearly all files have it as their shorter side: nothing is resized.
SIDE = 40
PIXELS = 100_000_000
STORED_TOLERANCE = 5  # levels, of a JPEG of quality 100
EVALUATED_TOLERANCE = 20  # levels, of a JPEG of the converter's quality
CONVERTER, EVALUATE, TENSORFLOW, HOST = (
    "converter",
    "fv.evaluate --images",
    "pipeline (tensorflow)",
    "pipeline (host)",
)
GRAPH = "signatures of an export"
VERIFIERS = ("Verifier(path)", "Verifier(bytes)", "Verifier(array)", "Verifier(PIL image)")
ENTRIES = (CONVERTER, EVALUATE, TENSORFLOW, HOST, GRAPH, *VERIFIERS)
COLUMNS = {
    "`make_tfrecords`, `fv.evaluate --images`": (CONVERTER, EVALUATE, TENSORFLOW, HOST),
    "`fv.verify`, `fv.Verifier`": VERIFIERS,
    "signatures of an export": (GRAPH,),
}


class Refused(Exception):
    """An entry point does not take a file."""


class EntryPoints:
    """Every way in which fv reads an image file, as functions of a file of the corpus to pixels."""

    def __init__(self, folder: pathlib.Path):
        """Makes the graph; files are written to `folder` where an entry point takes paths."""
        load = decoding.batch_loader(decoding.DecodingRules(SIDE, 1.0, PIXELS))
        self._folder = folder
        self._through_graph = functools.cache(
            self._run_graph
        )  # several entry points send it the same bytes
        self._load = tf.function(
            lambda encoded: load(encoded, tf.fill(tf.shape(encoded), "image[0]")),
            input_signature=[tf.TensorSpec([None], tf.string)],
            autograph=False,
        )

    def read(self, file: File, entry: str) -> np.ndarray:
        """Pixels, int [side, side, 3], that an entry point gives a network for a file.

        Raises:
          Refused: by one line, its message.
        """
        if entry == GRAPH:
            return self._through_graph(file.data)
        if entry in VERIFIERS:
            return self._through_graph(self._encode(file, entry))
        quality = options_module.ConvertOptions.jpeg_quality if entry == EVALUATE else 100
        try:
            stored = storage.prepare_image(
                file.data, storage.StorageRules(PIXELS, Preprocessing(jpeg_quality=quality))
            ).stored
        except image_files.BadImage as error:
            raise Refused(str(error)) from error
        if entry == TENSORFLOW:
            return image_ops.jpeg_to_input(tf.constant(stored), SIDE, 1.0).numpy().astype(int)
        result = np.zeros((SIDE, SIDE, 3), np.uint8)
        image_ops.load_on_host(stored, 1.0, result)
        return result.astype(int)

    def _encode(self, file: File, entry: str) -> bytes:
        path = self._folder / f"{hashlib.sha256(file.data).hexdigest()}{file.suffix}"
        path.write_bytes(file.data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of damaged EXIF
            given = dict(
                zip(VERIFIERS, (path, file.data, file.wanted, Image.open(path)), strict=True)
            )[entry]
            try:
                return image_inputs.encode(given, PIXELS)
            except UserError as error:
                raise Refused(str(error)) from error

    def _run_graph(self, encoded: bytes) -> np.ndarray:
        try:
            return self._load(tf.constant([encoded])).numpy()[0].astype(int)
        except tf.errors.InvalidArgumentError as error:
            raise Refused(str(error)) from error


def differ(wanted: np.ndarray, entry: str, found: np.ndarray) -> int:
    """Levels by which the pixels of an entry point differ too much; 0 if they agree."""
    tolerance = {EVALUATE: EVALUATED_TOLERANCE} | dict.fromkeys(
        (CONVERTER, TENSORFLOW, HOST), STORED_TOLERANCE
    )
    difference = int(np.abs(found - wanted).max())
    return difference if difference > tolerance.get(entry, TOLERANCE) else 0


def render(taken: Mapping[str, Mapping[str, bool]]) -> str:
    """The table of the guide.

    Args:
      taken: by group of files, by entry point, whether it takes all of them.
    """
    lines = [f"| file | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
    for group, by_entry in taken.items():
        cells = [
            "yes" if all(by_entry[entry] for entry in entries) else "refused"
            for entries in COLUMNS.values()
        ]
        lines.append(f"| {group} | {' | '.join(cells)} |")
    return "\n".join(lines)


def compare(
    corpus: Iterable[File], points: EntryPoints
) -> tuple[dict[str, dict[str, bool]], list[str]]:
    """Runs files through every entry point.

    Returns:
      What `render` takes, and a line for each file that an entry point reads differently.
    """
    taken, wrong = {}, []
    for file in corpus:
        group = taken.setdefault(file.group, dict.fromkeys(ENTRIES, True))
        wanted = image_ops.to_input(tf.constant(file.wanted), SIDE, 1.0).numpy().astype(int)
        for entry in ENTRIES:
            try:
                difference = differ(wanted, entry, points.read(file, entry))
            except Refused:
                group[entry] = False
                continue
            if difference:
                wrong.append(f"{file}: {entry} differs by {difference} levels")
    return taken, wrong


def main() -> int:
    """Runs the whole corpus and prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        taken, wrong = compare(files(large=True), EntryPoints(pathlib.Path(folder)))
    print("\n".join([render(taken), "", *wrong, f"{len(wrong)} differences"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
