"""A small picture and image files that nothing decodes, for the tests of exports."""

import io

import numpy as np
from PIL import Image

from fv.alignment import Alignment
from fv.preprocessing import Preprocessing

ALIGNED = Preprocessing(store_size=40, alignment=Alignment(0.1, "mtcnn 1.0.0"))
WIDTH, HEIGHT = 60, 44
SCAN_HEAD_BYTES = 14


def picture() -> Image.Image:
    """A smooth picture without any symmetry."""
    across, down = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    channels = [255 * across, 255 * down**2, 120 + 90 * np.sin(7 * across * down)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def encode(image: Image.Image, form: str, **options) -> bytes:
    """The bytes of an image file."""
    encoded = io.BytesIO()
    image.save(encoded, form, **options)
    return encoded.getvalue()


def refused() -> dict[str, tuple[bytes, str]]:
    """Image files that are not taken, by what they are, with a part of what is said of them."""
    jpeg, png, bmp, gif = (encode(picture(), form) for form in ("JPEG", "PNG", "BMP", "GIF"))
    frame = jpeg.index(b"\xff\xc0") + 5
    scan = jpeg.index(b"\xff\xda")
    return {
        "nothing": (b"", "is empty"),
        "text": (b"no image at all", "is no JPEG, PNG, BMP or GIF"),
        "WebP": (encode(picture(), "WEBP"), "is no JPEG, PNG, BMP or GIF"),
        "the end of a PNG": (png[1:], "is no JPEG, PNG, BMP or GIF"),
        "a JPEG cut short": (jpeg[:-300], "is no whole JPEG"),
        "a JPEG's header": (jpeg[:200], "is no whole JPEG"),
        "a JPEG of 4 billion pixels": (
            jpeg[:frame] + b"\xff\xdc\xff\xdc" + jpeg[frame + 4 :],
            "65500 x 65500 pixels, more",
        ),
        "a JPEG of 200 scans": (
            jpeg[:scan] + jpeg[scan : scan + SCAN_HEAD_BYTES] * 200 + jpeg[scan:],
            "more than 100 scans",
        ),
        "a PNG cut short": (png[:-200], "is no whole JPEG"),
        "a PNG's header": (png[:20], f"has {WIDTH} x 0 pixels"),
        "a PNG of 4 exapixels": (
            png[:16] + b"\x7f\xff\xff\xff" * 2 + png[24:],
            "2147483647 x 2147483647 pixels, more",
        ),
        "a BMP cut short": (bmp[:-500], "is no whole JPEG"),
        "a BMP's first bytes": (b"BM", "is a BMP of a kind"),
        "a BMP too wide": (
            bmp[:18] + b"\xff\xff\xff\x7f" + bmp[22:],
            "2147483647 x 44 pixels, more",
        ),
        "a compressed BMP": (bmp[:30] + b"\x01" + bmp[31:], "is a compressed BMP"),
        "a GIF cut short": (gif[:-600], "is no whole JPEG"),
        "a GIF's first bytes": (b"GIF89a", "is no whole JPEG"),
        "a GIF without a frame": (gif[:13] + b";", "is no whole JPEG"),
        "a GIF of 4 billion pixels": (
            gif[:6] + b"\xff\xff\xff\xff" + gif[10:],
            "65535 x 65535 pixels, more",
        ),
    }
