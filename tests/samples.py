"""Small real inputs for the tests: images of made-up people, and shards of pairs of them."""

import hashlib
import io
import pathlib

import numpy as np
from PIL import Image

from fv import manifest, record

SIDE = 40  # pixels
RESIZE_TOLERANCE = (
    1  # levels of 255 by which the two resizes may differ: OpenCV's weights have 11 bits
)


def image_bytes(identity: int, image: int, side: int = SIDE, form: str = "JPEG") -> bytes:
    """An image with four coloured quarters for its identity and noise of its own."""
    quarters = np.random.default_rng(identity).integers(40, 215, (2, 2, 3))
    pixels = np.kron(quarters, np.ones((side // 2, side // 2, 1)))
    pixels += np.random.default_rng((identity, image, 1)).normal(0, 12, pixels.shape)
    return encode(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), form)


def encode(image: Image.Image, form: str) -> bytes:
    """The image's bytes in a format of Pillow's."""
    encoded = io.BytesIO()
    image.save(encoded, form)
    return encoded.getvalue()


def write_images(
    folder: pathlib.Path, identities: int, images: int, side: int = SIDE
) -> pathlib.Path:
    """Writes `images` images of each of `identities` people, one folder per person."""
    for identity in range(identities):
        person = folder / f"person_{identity:03d}"
        person.mkdir(parents=True)
        for image in range(images):
            (person / f"{image:04d}.jpg").write_bytes(image_bytes(identity, image, side))
    return folder


def write_shards(
    folder: pathlib.Path, pairs: dict[str, int], shards: int = 3, identities: int = 6
) -> manifest.Manifest:
    """Writes shards of balanced pairs by the record's contract alone, without the converter.

    Args:
      folder: a folder to create.
      pairs: pairs of each split; each split has people of its own.
      shards: shards of each split, of unequal sizes.
      identities: people of each split.

    Returns:
      The manifest, saved in the folder.
    """
    folder.mkdir(parents=True)
    splits = {}
    for number, (split, count) in enumerate(pairs.items()):
        people = range(number * identities, (number + 1) * identities)
        records = [
            _pair(people, pair, np.random.default_rng((number, pair))) for pair in range(count)
        ]
        cuts = np.sort(
            np.random.default_rng(number).choice(np.arange(1, count), shards - 1, replace=False)
        )
        parts = [list(part) for part in np.split(np.array(records, object), cuts)]
        written = tuple(
            _write_shard(folder, manifest.shard_name(split, i, shards), part)
            for i, part in enumerate(parts)
        )
        names = tuple(_name(person) for person in people)
        splits[split] = manifest.Split(count // 2, count - count // 2, count * 2, names, written)
    saved = manifest.Manifest(seed=0, flags="", splits=splits)
    manifest.save(saved, str(folder))
    return saved


def digests(folder: pathlib.Path | str) -> dict[str, str]:
    """SHA-256 of each shard in a folder, by its name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in pathlib.Path(folder).glob("*.tfrecord")
    }


def _pair(people: range, pair: int, rng: np.random.Generator) -> bytes:
    genuine = pair % 2
    first, second = rng.choice(people, 2, replace=False)
    if genuine:
        second = first
    shown = [(first, 2 * pair), (second, 2 * pair + 1)]
    fields = {record.LABEL: genuine}
    for (identity, image), encoded, name, path in zip(
        shown,
        (record.IMAGE_A, record.IMAGE_B),
        (record.IDENTITY_A, record.IDENTITY_B),
        (record.PATH_A, record.PATH_B),
        strict=True,
    ):
        fields[encoded] = image_bytes(identity, image)
        fields[name] = _name(identity).encode()
        fields[path] = f"{_name(identity)}/{image:04d}.jpg".encode()
    return record.encode_pair(fields)


def _name(identity: int) -> str:
    return f"person_{identity:03d}"


def _write_shard(folder: pathlib.Path, name: str, records: list[bytes]) -> manifest.Shard:
    data = b"".join(map(record.frame, records))
    (folder / name).write_bytes(data)
    return manifest.Shard(name, len(records), len(data), hashlib.sha256(data).hexdigest())
