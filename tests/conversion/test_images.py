import io
import struct

import numpy as np
import pytest
from PIL import Image

from fv.conversion import images
from tests.conversion import making

RULES = images.Rules(max_pixels=10_000, jpeg_quality=95)
PICTURE = Image.fromarray(making.pixels(1))


def decoded(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    return np.asarray(image).astype(int)


def grey16() -> np.ndarray:
    return making.pixels(1)[..., 0].astype(np.uint16) * 257


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"subsampling": "4:4:4"}])
def test_sound_jpeg_bytes_come_back_untouched(options):
    data = making.encode(PICTURE, **options)
    assert images.to_jpeg(data, RULES) is data


def test_a_grey_jpeg_comes_back_untouched():
    data = making.encode(PICTURE.convert("L"))
    assert images.to_jpeg(data, RULES) is data


@pytest.mark.parametrize("format", ["PNG", "PPM", "BMP", "TIFF"])
def test_a_lossless_format_becomes_jpeg_that_looks_the_same(format):
    made = decoded(images.to_jpeg(making.encode(PICTURE, format), RULES))
    assert np.abs(made - making.pixels(1)).mean() < 2


@pytest.mark.parametrize("format", ["WEBP", "GIF"])
def test_a_lossy_format_becomes_jpeg(format):
    made = decoded(images.to_jpeg(making.encode(PICTURE, format), RULES))
    assert np.abs(made - making.pixels(1)).mean() < 10


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA"])
def test_every_mode_becomes_rgb(mode):
    assert decoded(images.to_jpeg(making.encode(PICTURE.convert(mode), "PNG"), RULES)).shape == (24, 24, 3)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_to_eight(format):
    made = decoded(images.to_jpeg(making.encode(Image.fromarray(grey16()), format), RULES))
    assert np.abs(made - making.pixels(1)[..., :1]).mean() < 2


def test_transparency_shows_white():
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    assert decoded(images.to_jpeg(making.encode(clear, "PNG"), RULES)).min() > 250


def test_cmyk_becomes_rgb():
    made = decoded(images.to_jpeg(making.encode(PICTURE.convert("CMYK"), quality=95), RULES))
    assert np.abs(made - making.pixels(1)).mean() < 6


def test_exif_rotation_is_applied_and_the_tag_is_gone():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter anticlockwise: shown right by turning it back
    wide = Image.fromarray(making.pixels(2)[:12])
    made = images.to_jpeg(making.encode(wide, exif=exif, quality=95), RULES)
    assert np.abs(decoded(made) - np.rot90(making.pixels(2)[:12], -1)).mean() < 6
    assert not Image.open(io.BytesIO(made)).getexif()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_short_anywhere_is_bad(progressive):
    data = making.encode(PICTURE, progressive=progressive)
    for length in range(3, len(data), 7):
        with pytest.raises(images.BadImage):
            images.to_jpeg(data[:length], RULES)
    with pytest.raises(images.BadImage, match="damaged JPEG"):
        images.to_jpeg(data[:-1], RULES)


@pytest.mark.parametrize("format", ["PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF"])
def test_another_format_cut_in_half_is_bad(format):
    data = making.encode(PICTURE, format)
    with pytest.raises(images.BadImage):
        images.to_jpeg(data[: len(data) // 2], RULES)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello world" * 9, "not an image"),
        (b"\xff\xd8\xff", "cut short"),
        (b"P5 9 9 255\n", "damaged"),
    ],
)
def test_what_is_no_image_is_bad_with_a_reason(data, reason):
    with pytest.raises(images.BadImage, match=reason):
        images.to_jpeg(data, RULES)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF"])
def test_more_pixels_than_allowed_are_refused(format):
    with pytest.raises(images.BadImage, match="101 × 100 pixels, more than the 0.01 million"):
        images.to_jpeg(making.encode(Image.new("RGB", (101, 100)), format), RULES)


def test_a_decompression_bomb_is_refused_from_its_header():
    data = bytearray(making.encode(PICTURE, "PNG"))
    data[16:24] = struct.pack(">II", 65_000, 65_000)
    with pytest.raises(images.BadImage):
        images.to_jpeg(bytes(data), RULES)


def test_bit_flips_are_either_refused_or_leave_a_jpeg_that_tensorflow_decodes():
    tf = pytest.importorskip("tensorflow")
    rng, data, kept = np.random.default_rng(0), making.jpeg(3), 0
    for _ in range(300):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            made = images.to_jpeg(bytes(flipped), RULES)
        except images.BadImage:
            continue
        kept += 1
        assert tf.io.decode_jpeg(made, channels=3).shape[-1] == 3
    assert 0 < kept < 300
