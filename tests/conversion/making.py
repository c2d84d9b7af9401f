"""Small real images for the converter's tests."""

import io
import pathlib
import struct
import tarfile

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


def record_parts(header: bytes, image: bytes) -> bytes:
    """One RecordIO record in one part."""
    data = header + image
    head = struct.pack("<II", 0xCED7230A, len(data))
    return head + data + bytes(-len(data) % 4)


def records(path: pathlib.Path, images, ranges: bool = False) -> pathlib.Path:
    """Writes (label, bytes) as a .rec with its .idx, and returns the .rec.

    With `ranges`, record 0 and the records of identities say which images are whose, as InsightFace
    has them; images of a label have to stand together.
    """
    images = list(images)
    listed = [(struct.pack("<IfQQ", 0, label, 0, 0), image) for label, image in images]
    if ranges:
        labels = [label for label, _ in images]
        end, known = len(images) + 1, sorted(set(labels), key=labels.index)
        firsts = [labels.index(label) + 1 for label in known]
        spans = zip(firsts, [*firsts[1:], end], strict=True)
        pairs = [(end, end + len(known)), *spans]
        heads = [(struct.pack("<IfQQff", 2, 0, 0, 0, *pair), b"") for pair in pairs]
        listed = [heads[0], *listed, *heads[1:]]
    with open(path, "wb") as file, open(path.with_suffix(".idx"), "w") as index:
        for key, (header, image) in enumerate(listed):
            index.write(f"{key}\t{file.tell()}\n")
            file.write(record_parts(header, image))
    return path


def tar(path: pathlib.Path, members) -> pathlib.Path:
    """Writes (name, bytes) as a tar, and returns it."""
    with tarfile.open(path, "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path
