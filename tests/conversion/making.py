"""Small real images for the converter's tests."""

import io
import pathlib

import numpy as np
from PIL import Image

from fv import manifest, record


def pixels(seed: int, size: int = 24) -> np.ndarray:
    """A smooth random picture, uint8 of shape (size, size, 3), its own for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def encode(image: Image.Image, format: str = "JPEG", **options) -> bytes:
    """The image's bytes in a format of Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def jpeg(seed: int = 0, size: int = 24, **options) -> bytes:
    """JPEG bytes of `pixels(seed, size)`."""
    return encode(Image.fromarray(pixels(seed, size)), **options)


def grey(seed: int, size: int = 24) -> Image.Image:
    """The grey picture of `pixels(seed, size)`."""
    return Image.fromarray(pixels(seed, size)).convert("L")


def people(folder: pathlib.Path, seed: int = 0, **images: int) -> pathlib.Path:
    """Fills `folder` with NAME/NAME_0001.jpg …, so many images for each name, and returns it."""
    for name, count in images.items():
        (folder / name).mkdir(parents=True)
        for index in range(1, count + 1):
            seed += 1
            (folder / name / f"{name}_{index:04d}.jpg").write_bytes(jpeg(seed))
    return folder


def pairs(folder: pathlib.Path, split: str = "train") -> list[dict]:
    """The decoded records of a split."""
    found = []
    for shard in manifest.load(str(folder)).split(split).shards:
        with open(folder / shard.name, "rb") as file:
            found += [record.decode_pair(data) for _, data in record.read_frames(file)]
    return found


def crowd(folder: pathlib.Path, identities: int, images: int) -> pathlib.Path:
    """Fills `folder` with so many people p000, p001, … of so many images each."""
    return people(folder, **{f"p{index:03d}": images for index in range(identities)})
