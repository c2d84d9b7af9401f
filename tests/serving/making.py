"""Image files of every kind, of one small picture, for the tests of what decodes them."""

import io

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 60, 44
ORIENTATION = 0x0112
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


def turned(orientation: int) -> bytes:
    """A JPEG with that EXIF orientation."""
    exif = Image.Exif()
    exif[0x010F] = "maker"  # a tag before the one that counts
    exif[ORIENTATION] = orientation
    return encode(picture(), "JPEG", exif=exif, quality=95)


def kinds() -> dict[str, bytes]:
    """Image files that are taken, by what they are."""
    rgb = picture()
    palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE)
    rgba = rgb.copy()
    rgba.putalpha(Image.linear_gradient("L").resize(rgb.size))
    grey16 = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    others = [rgb.rotate(180).convert("P")] * 3
    return {
        "baseline JPEG": encode(rgb, "JPEG"),
        "progressive JPEG": encode(rgb, "JPEG", progressive=True),
        "grey JPEG": encode(rgb.convert("L"), "JPEG"),
        "CMYK JPEG": encode(rgb.convert("CMYK"), "JPEG"),
        **{f"JPEG of orientation {value}": turned(value) for value in range(1, 9)},
        "JPEG of no such orientation": turned(9),
        "RGB PNG": encode(rgb, "PNG"),
        "RGBA PNG": encode(rgba, "PNG"),
        "grey PNG with opacity": encode(rgba.convert("LA"), "PNG"),
        "palette PNG": encode(palette, "PNG"),
        "palette PNG of 4 bits": encode(rgb.quantize(13), "PNG"),
        "palette PNG with transparency": encode(palette, "PNG", transparency=3),
        "black and white PNG": encode(rgb.convert("1"), "PNG"),
        "16-bit PNG": encode(grey16, "PNG"),
        "24-bit BMP": encode(rgb, "BMP"),
        "32-bit BMP": encode(rgba, "BMP"),
        "grey BMP": encode(rgb.convert("L"), "BMP"),
        "palette BMP": encode(palette, "BMP"),
        "GIF": encode(palette, "GIF"),
        "animated GIF": encode(palette, "GIF", save_all=True, append_images=others),
        "large JPEG": encode(rgb.resize((900, 660)), "JPEG"),
        "large PNG": encode(rgb.resize((900, 660)), "PNG"),
    }


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
        "a JPEG of 4 billion pixels": (jpeg[:frame] + b"\xff\xdc\xff\xdc" + jpeg[frame + 4 :], "65500 x 65500 pixels, more"),
        "a JPEG of 200 scans": (
            jpeg[:scan] + jpeg[scan : scan + SCAN_HEAD_BYTES] * 200 + jpeg[scan:],
            "more than 100 scans",
        ),
        "a PNG cut short": (png[:-200], "is no whole JPEG"),
        "a PNG's header": (png[:20], f"has {WIDTH} x 0 pixels"),
        "a PNG of 4 exapixels": (png[:16] + b"\x7f\xff\xff\xff" * 2 + png[24:], "2147483647 x 2147483647 pixels, more"),
        "a BMP cut short": (bmp[:-500], "is no whole JPEG"),
        "a BMP's first bytes": (b"BM", "is a BMP of a kind"),
        "a BMP too wide": (bmp[:18] + b"\xff\xff\xff\x7f" + bmp[22:], "2147483647 x 44 pixels, more"),
        "a compressed BMP": (bmp[:30] + b"\x01" + bmp[31:], "is a compressed BMP"),
        "a GIF cut short": (gif[:-600], "is no whole JPEG"),
        "a GIF's first bytes": (b"GIF89a", "is no whole JPEG"),
        "a GIF without a frame": (gif[:13] + b";", "is no whole JPEG"),
        "a GIF of 4 billion pixels": (gif[:6] + b"\xff\xff\xff\xff" + gif[10:], "65535 x 65535 pixels, more"),
    }
