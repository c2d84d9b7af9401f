import dataclasses

import pytest
from PIL import Image

from fv.conversion import image_files
from tests.conversion import making


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"comment": b"x" * 999}]
)
def test_size_is_read_from_any_plain_jpeg(options):
    data = making.encode(Image.new("RGB", (31, 17)), **options)
    head = image_files.read_jpeg_head(data)
    assert (head.width, head.height, head.bits, head.components) == (31, 17, 8, 3)
    assert head.plain and head.orientation == image_files.UPRIGHT
    assert data[head.scan : head.scan + 2] == b"\xff\xda"


def test_cmyk_is_not_plain():
    assert not image_files.read_jpeg_head(making.encode(Image.new("CMYK", (8, 8)))).plain


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_from_exif(orientation):
    exif = Image.Exif()
    exif[0x010F] = "a maker, so that orientation is not the first entry"
    exif[0x0112] = orientation
    assert image_files.read_jpeg_head(making.jpeg(exif=exif)).orientation == orientation


def test_a_damaged_exif_segment_counts_as_upright():
    data = making.jpeg()
    segment = b"Exif\0\0MM\0*\xff\xff\xff\xff"
    data = data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]
    assert image_files.read_jpeg_head(data).orientation == 1


def test_fill_bytes_before_a_marker_are_passed_over():
    data = making.jpeg()
    head = image_files.read_jpeg_head(data)
    filled = image_files.read_jpeg_head(data[:2] + b"\xff\xff\xff" + data[2:])
    assert filled == dataclasses.replace(head, scan=head.scan + 3)


@pytest.mark.parametrize("length", [0, 2, 3, 20, 150])
def test_a_header_cut_short_is_an_error(length):
    with pytest.raises(ValueError, match="cut short"):
        image_files.read_jpeg_head(making.jpeg()[:length])
