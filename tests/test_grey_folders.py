"""The layout of the ORL (AT&T) faces: grey PGM images of 92 × 112 pixels in s1 … s40."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from fv import manifest, record
from fv.conversion import convert, options
from fv.training.run import train
from tests.training.test_run import logged_losses

WIDTH, HEIGHT = 92, 112
PEOPLE, IMAGES = 40, 3


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Such folders, converted with the converter's defaults."""
    folder = tmp_path_factory.mktemp("orl")
    rng = np.random.default_rng(0)
    for person in range(1, PEOPLE + 1):
        (folder / "faces" / f"s{person}").mkdir(parents=True)
        face = rng.integers(0, 256, (7, 6))
        for image in range(1, IMAGES + 1):
            shown = Image.fromarray(
                np.clip(face + rng.normal(0, 30, face.shape), 0, 255).astype(np.uint8)
            )
            shown.resize((WIDTH, HEIGHT)).save(folder / "faces" / f"s{person}" / f"{image}.pgm")
    convert.convert(
        options.ConvertOptions(str(folder / "faces"), str(folder / "shards"), workers=2)
    )
    return folder / "shards"


def test_they_are_converted_whole(converted):
    made = manifest.load(str(converted))
    assert sum(split.images for split in made.splits.values()) == PEOPLE * IMAGES
    with open(converted / made.split("train").shards[0].name, "rb") as file:
        pair = record.decode_pair(next(record.read_frames(file))[1])
    assert pair[record.IDENTITY_A].startswith(b"s") and pair[record.PATH_A].endswith(b".pgm")
    image = Image.open(io.BytesIO(pair[record.IMAGE_A]))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (WIDTH, HEIGHT))


def test_they_train_like_any_other(converted, tiny_run, tmp_path):
    train(dataclasses.replace(tiny_run, tfrecords=str(converted), workdir=str(tmp_path), steps=20))
    losses = logged_losses(str(tmp_path))
    assert losses[20] < losses[10]
