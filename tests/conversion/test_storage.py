import errno
import io
import os
import pathlib
import struct

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from fv import errors, files
from fv.conversion import checking, image_files, storage
from fv.conversion.datasets import Place
from fv.conversion.storage import Box
from fv.errors import UserError
from fv.preprocessing import Preprocessing
from tests.conversion import making

RULES = storage.StorageRules(max_pixels=10_000)
SPACIOUS = storage.StorageRules(max_pixels=1_000_000)
LUMA = (0.299, 0.587, 0.114)
PICTURE = Image.fromarray(making.pixels(1))


def test_a_number_is_the_fraction_of_the_centre_square():
    assert storage.parse_crop("0.64") == storage.Crop(fraction=0.64)
    assert storage.crop_window(250, 200, 0.64, None) == Box(61, 36, 128, 128)
    assert storage.crop_window(3, 3, 0.01, None) == Box(1, 1, 1, 1)


def test_none_is_the_whole_image():
    assert storage.crop_window(250, 200, storage.parse_crop("none").fraction, None) == Box(
        0, 0, 250, 200
    )


@pytest.mark.parametrize("text", ["0", "-0.5", "1.01", "nan"])
def test_a_fraction_out_of_range_is_refused(text):
    with pytest.raises(UserError, match=r"not in \(0, 1\]"):
        storage.parse_crop(text)


def test_boxes_are_read_by_path_and_cut_at_the_border(tmp_path):
    (tmp_path / "boxes.csv").write_text(
        "path,left,top,width,height,score\n./a/1.jpg,-5,10.4,100,50,0.9\n"
    )
    crop = storage.parse_crop(str(tmp_path / "boxes.csv"))
    assert crop.boxes == {"a/1.jpg": Box(-5, 10, 100, 50)}
    assert storage.crop_window(80, 40, None, crop.boxes["a/1.jpg"]) == Box(0, 10, 80, 30)
    with pytest.raises(image_files.BadImage, match="lies outside its 80 × 8 pixels"):
        storage.crop_window(80, 8, None, crop.boxes["a/1.jpg"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a/1.jpg,1,2,x,4", "line 2: left, top, width and height have to be numbers"),
        ("a/1.jpg,1,2,3", "line 2: left, top, width and height have to be numbers"),
        ("a/1.jpg,1,2,0,4", "line 2: a box of 0 × 4 pixels is empty"),
        ("../1.jpg,1,2,3,4", "line 2: '../1.jpg' leaves the images folder"),
    ],
)
def test_a_row_that_is_no_box_is_refused_with_its_line(tmp_path, row, message):
    (tmp_path / "boxes.csv").write_text(f"path,left,top,width,height\n{row}\n")
    with pytest.raises(UserError, match=message):
        storage.parse_crop(str(tmp_path / "boxes.csv"))


def decoded(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    return np.asarray(image).astype(int)


def rotation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def grey16() -> np.ndarray:
    return making.pixels(1)[..., 0].astype(np.uint16) * 257


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 30}, {"subsampling": "4:4:4"}]
)
def test_sound_jpeg_bytes_come_back_untouched(options):
    data = making.encode(PICTURE, **options)
    assert storage.prepare_image(data, RULES).stored is data


def test_a_grey_jpeg_comes_back_untouched():
    data = making.encode(PICTURE.convert("L"))
    assert storage.prepare_image(data, RULES).stored is data


@pytest.mark.parametrize("format", ["PNG", "PPM", "BMP", "TIFF"])
def test_a_lossless_format_becomes_jpeg_that_looks_the_same(format):
    made = decoded(storage.prepare_image(making.encode(PICTURE, format), RULES).stored)
    assert np.abs(made - making.pixels(1)).mean() < 2


@pytest.mark.parametrize("format", ["WEBP", "GIF"])
def test_a_lossy_format_becomes_jpeg(format):
    made = decoded(storage.prepare_image(making.encode(PICTURE, format), RULES).stored)
    assert np.abs(made - making.pixels(1)).mean() < 10


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA"])
def test_every_mode_becomes_rgb(mode):
    assert decoded(
        storage.prepare_image(making.encode(PICTURE.convert(mode), "PNG"), RULES).stored
    ).shape == (24, 24, 3)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_to_eight(format):
    made = decoded(
        storage.prepare_image(making.encode(Image.fromarray(grey16()), format), RULES).stored
    )
    assert np.abs(made - making.pixels(1)[..., :1]).mean() < 2


def test_transparency_shows_white():
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    assert decoded(storage.prepare_image(making.encode(clear, "PNG"), RULES).stored).min() > 250


def test_cmyk_becomes_rgb():
    made = decoded(
        storage.prepare_image(making.encode(PICTURE.convert("CMYK"), quality=95), RULES).stored
    )
    assert np.abs(made - making.pixels(1)).mean() < 6


def test_exif_rotation_is_applied_and_the_tag_is_gone():
    exif = rotation(6)  # turned a quarter anticlockwise: shown right by turning it back
    wide = Image.fromarray(making.pixels(2)[:12])
    made = storage.prepare_image(making.encode(wide, exif=exif, quality=95), RULES).stored
    assert np.abs(decoded(made) - np.rot90(making.pixels(2)[:12], -1)).mean() < 6
    assert not Image.open(io.BytesIO(made)).getexif()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_short_anywhere_is_bad(progressive):
    data = making.encode(PICTURE, progressive=progressive)
    for length in range(3, len(data), 7):
        with pytest.raises(image_files.BadImage):
            storage.prepare_image(data[:length], RULES)
    with pytest.raises(image_files.BadImage, match="damaged JPEG"):
        storage.prepare_image(data[:-1], RULES)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 50}])
def test_a_damaged_jpeg_is_bad_whatever_its_orientation(orientation, options):
    data = making.jpeg(1, 200, exif=rotation(orientation), **options)
    middle = (data.index(b"\xff\xda") + len(data)) // 2
    hole = data[:middle] + bytes(512) + data[middle + 512 :]
    cut = data[:middle] + b"\xff\xd9"
    storage.prepare_image(data, SPACIOUS)
    for damaged in (hole, cut, data[:-2]):
        with pytest.raises(image_files.BadImage, match="damaged JPEG"):
            storage.prepare_image(damaged, SPACIOUS)


@pytest.mark.parametrize("store_size", [None, 12])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_damaged_jpeg_is_bad_whatever_is_stored_of_it(mode, store_size):
    data = making.encode(Image.fromarray(making.pixels(1, 200)).convert(mode))
    middle = (data.index(b"\xff\xda") + len(data)) // 2
    with pytest.raises(image_files.BadImage, match="damaged JPEG"):
        rules = storage.StorageRules(1_000_000, Preprocessing(store_size=store_size))
        storage.prepare_image(data[:middle] + bytes(512) + data[middle + 512 :], rules)


@pytest.mark.parametrize("trailer", [bytes(5000), b"\0\0\0\x18ftypmp42" * 300, making.jpeg(2)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_what_stands_behind_the_end_of_a_jpeg_is_not_stored(options, trailer):
    data = making.encode(PICTURE, **options)
    assert storage.prepare_image(data + trailer, RULES).stored == data
    turned = making.encode(PICTURE, exif=rotation(6), **options)
    assert (
        storage.prepare_image(turned + trailer, RULES).stored
        == storage.prepare_image(turned, RULES).stored
    )


def test_end_markers_in_a_thumbnail_do_not_end_an_image():
    data = making.jpeg(1)
    comment = b"\xff\xfe" + (len(data) + 2).to_bytes(2, "big") + data
    named = data[:2] + comment + data[2:]
    assert storage.prepare_image(named + b"trailer", RULES).stored == named


def test_header_fields_that_no_decoder_needs_are_repaired():
    data = making.jpeg(1)
    jfif, scan = data.index(b"JFIF\0") + 5, data.index(b"\xff\xda") + 11
    odd = data[:jfif] + b"\2" + data[jfif + 1 : scan] + b"\1\x3e\0" + data[scan + 3 :]
    assert storage.prepare_image(odd, RULES).stored == data


def test_a_jpeg_of_twelve_bits_is_named_as_such():
    data = bytearray(making.jpeg())
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(image_files.BadImage, match="JPEG of 12 bits a sample: save it with 8"):
        storage.prepare_image(bytes(data), RULES)


@pytest.mark.parametrize("format", ["PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF"])
def test_another_format_cut_in_half_is_bad(format):
    data = making.encode(PICTURE, format)
    with pytest.raises(image_files.BadImage):
        storage.prepare_image(data[: len(data) // 2], RULES)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello world" * 9, "not an image"),
        (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC data: convert it to JPEG"),
        (b"\xff\xd8\xff", "cut short"),
        (b"P5 9 9 255\n", "damaged"),
        (b"II*\0\xff\0\0\0", "damaged TIFF, or of a kind that fv does not read: save it as PNG"),
    ],
)
def test_what_is_no_image_is_bad_with_a_reason(data, reason):
    with pytest.raises(image_files.BadImage, match=reason):
        storage.prepare_image(data, RULES)


def test_a_jpeg_of_odd_subsampling_is_not_called_damaged():
    sound = making.jpeg(subsampling="4:2:0")
    sampling = sound.index(b"\xff\xc0") + 14  # of the second component
    with pytest.raises(
        image_files.BadImage, match="^a JPEG whose chroma subsampling fv does not read"
    ):
        storage.prepare_image(sound[:sampling] + b"\x12" + sound[sampling + 1 :], RULES)


def test_a_png_without_its_end_or_with_a_wrong_checksum_is_bad():
    sound = making.encode(PICTURE, "PNG")
    checksum = sound.index(b"IEND") - 8  # of the pixels
    flipped = sound[:checksum] + bytes([sound[checksum] ^ 1]) + sound[checksum + 1 :]
    for data, reason in (
        (sound[:-12], "cut short"),
        (sound[:-4], "cut short"),
        (sound[:-1] + b"\0", "IEND has a wrong checksum"),
        (flipped, "IDAT has a wrong checksum"),
    ):
        with pytest.raises(image_files.BadImage, match=f"damaged PNG: .*{reason}"):
            storage.prepare_image(data, RULES)
    storage.prepare_image(sound + bytes(99), RULES)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF"])
def test_more_pixels_than_allowed_are_refused(format):
    with pytest.raises(image_files.BadImage, match="101 × 100 pixels, more than the 0.01 million"):
        storage.prepare_image(making.encode(Image.new("RGB", (101, 100)), format), RULES)


def test_a_decompression_bomb_is_refused_from_its_header():
    data = bytearray(making.encode(PICTURE, "PNG"))
    data[16:24] = struct.pack(">II", 65_000, 65_000)
    with pytest.raises(image_files.BadImage):
        storage.prepare_image(bytes(data), RULES)


def test_bit_flips_are_refused_or_leave_a_jpeg_for_tensorflow():
    tf = pytest.importorskip("tensorflow")
    rng, data, kept = np.random.default_rng(0), making.jpeg(3), 0
    for _ in range(300):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            made = storage.prepare_image(bytes(flipped), RULES).stored
        except image_files.BadImage:
            continue
        kept += 1
        assert tf.io.decode_jpeg(made, channels=3).shape[-1] == 3
    assert 0 < kept < 300


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_stored_size_is_cut_and_made_small_by_area_averages(form):
    rules = storage.StorageRules(10_000, Preprocessing(0.8, store_size=8, jpeg_quality=100))
    sound = storage.prepare_image(
        making.encode(Image.fromarray(making.pixels(1, 40)), form, quality=95), rules
    )
    wanted = making.pixels(1, 40)[4:36, 4:36].reshape(8, 4, 8, 4, 3).mean((1, 3)) @ LUMA
    assert sound.stored_size == (8, 8) and sound.grey.shape == (40, 40)
    assert (
        np.abs(decoded(sound.stored) @ LUMA - wanted).mean() < 2
    )  # chroma is stored at half the size


def test_a_box_is_stored_with_its_proportions():
    rules = storage.StorageRules(10_000, Preprocessing(store_size=10))
    sound = storage.prepare_image(making.jpeg(1, 60), rules, storage.Box(10, 20, 40, 20))
    assert sound.stored_size == (20, 10) == Image.open(io.BytesIO(sound.stored)).size
    with pytest.raises(image_files.BadImage, match="lies outside"):
        storage.prepare_image(making.jpeg(1, 60), rules, storage.Box(60, 0, 5, 5))


def test_an_image_smaller_than_the_stored_size_is_not_enlarged():
    assert storage.prepare_image(
        making.jpeg(1, 24), storage.StorageRules(10_000, Preprocessing(store_size=100))
    ).stored_size == (24, 24)


def test_a_jpeg_of_rgb_planes_is_sound():
    sound = storage.prepare_image(making.encode(PICTURE, quality=95, keep_rgb=True), RULES)
    assert np.abs(sound.grey.astype(int) - np.asarray(PICTURE.convert("L"))).mean() < 3


def test_looking_at_the_grey_picture_only_misses_no_damage():
    rng, data = np.random.default_rng(0), making.jpeg(3, 60)
    verdicts = []
    for _ in range(400):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << rng.integers(8)
        verdicts.append([whole_is_sound(bytes(flipped), colours) for colours in ("GRAY", "RGB")])
    assert all(grey == colour for grey, colour in verdicts)
    assert 0 < sum(grey for grey, _ in verdicts) < 400


def whole_is_sound(data: bytes, colours: str) -> bool:
    try:
        simplejpeg.decode_jpeg(data, colours, strict=True)
        return True
    except ValueError:
        return False


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_a_file_that_cannot_be_read_is_left_out(tmp_path, monkeypatch, code):
    making.people(tmp_path, Ada=1)
    monkeypatch.setattr(files, "read_bytes", fail_with(code))
    _, reasons = check_one(tmp_path)
    assert reasons == {0: f"cannot be read: {os.strerror(code)}"}


def test_a_network_disk_that_fails_for_a_moment_leaves_no_image_out(tmp_path, monkeypatch):
    making.people(tmp_path, Ada=1)
    monkeypatch.setattr(files, "read_bytes", fail_with(errno.ESTALE))
    with pytest.raises(OSError, match="Ada_0001.jpg") as caught:
        check_one(tmp_path)
    assert errors.is_temporary(caught.value)


def check_one(folder: pathlib.Path) -> tuple[np.ndarray, dict[int, str]]:
    task = (0, [Place("Ada/Ada_0001.jpg")], [None])
    return checking.check_task(str(folder), str(folder), RULES, task)


def fail_with(code: int):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    return fail
