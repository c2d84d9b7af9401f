"""What people have for an image → the bytes that the exported graph decodes."""

import io
import os

import numpy as np
from PIL import Image, ImageOps

from fv.errors import UserError

ImageSource = str | os.PathLike | bytes | np.ndarray | Image.Image
TAKEN = "a path, bytes, a uint8 array [height, width, 3 or 4] or [height, width], or a PIL image"


def encode(image: ImageSource) -> bytes:
    """Bytes of an image file.

    Args:
      image: path of an image file; its bytes; uint8 array [height, width, 3] in RGB, [height, width, 4] with opacity, or
        [height, width] in grey; or a PIL image, whose EXIF orientation is applied.

    Raises:
      UserError: none of these, or a path that is no file.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return _read(os.fspath(image))
    if isinstance(image, np.ndarray):
        return _encode_array(image)
    if isinstance(image, Image.Image):
        return _encode_pil(ImageOps.exif_transpose(image))
    raise UserError(f"{type(image).__name__} is no image: give {TAKEN}")


def name(image: ImageSource) -> str:
    """What an image is called in a message."""
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    if isinstance(image, bytes):
        return f"an image of {len(image):,} bytes"
    return "an array" if isinstance(image, np.ndarray) else "a PIL image"


def is_batch(images: object) -> bool:
    """Whether this is a list or tuple of images, or a uint8 array [batch, height, width, 3 or 4]."""
    return isinstance(images, list | tuple) or (isinstance(images, np.ndarray) and images.ndim == 4)


def _read(path: str) -> bytes:
    if not os.path.isfile(path):
        raise UserError(f"{path} is no file")
    with open(path, "rb") as file:
        return file.read()


def _encode_array(image: np.ndarray) -> bytes:
    channels = image.shape[2] if image.ndim == 3 else None
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (None, 3, 4) or 0 in image.shape:
        raise UserError(f"an array {image.dtype} {list(image.shape)} is no image: give {TAKEN}")
    return _encode_pil(Image.fromarray(np.ascontiguousarray(image)))


def _encode_pil(image: Image.Image) -> bytes:
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
        image = image.convert("RGB")
    encoded = io.BytesIO()
    image.save(encoded, "PNG", compress_level=1)  # lossless; more would take longer than the network
    return encoded.getvalue()
