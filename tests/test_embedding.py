import dataclasses
import threading
from collections.abc import Callable

import numpy as np
import pytest

from fv import embedding, image_ops
from fv.conversion.image_files import BadImage
from fv.errors import UserError
from fv.model import siamese
from tests import samples
from tests.conftest import TINY

COUNT = 11


@dataclasses.dataclass(frozen=True)
class Images:
    paths: list[str]
    read: Callable[[int], bytes]


def make_images(broken: dict[int, bytes] | None = None) -> Images:
    """Images of three people; `broken` replaces the bytes of some."""
    encoded = {number: samples.image_bytes(number % 3, number) for number in range(COUNT)}
    encoded |= broken or {}
    return Images([f"{number}.jpg" for number in encoded], encoded.__getitem__)


@pytest.fixture(scope="module")
def encoder():
    return siamese.build_encoder(TINY)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(embedding, "_IMAGES_PER_BLOCK", 4)
    monkeypatch.setattr(embedding, "_BATCH_SIZE", 3)


def test_each_image_is_read_once_and_embedded_as_alone(encoder, small_blocks):
    images, read = make_images(), []
    counted = dataclasses.replace(images, read=lambda n: read.append(n) or images.read(n))
    found = embedding.embed(encoder, TINY, counted)
    assert sorted(read) == list(range(COUNT))
    assert found.shape == (COUNT, TINY.embedding_size) and found.dtype == np.float32
    pixels = [
        image_ops.jpeg_to_input(images.read(number), TINY.image_size, TINY.crop_fraction)
        for number in range(COUNT)
    ]
    expected = encoder(np.stack(pixels), training=False).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


def test_finished_blocks_are_not_embedded_again(encoder, small_blocks, tmp_path):
    checksums, images = np.arange(2 * COUNT).reshape(COUNT, 2), make_images()

    def embed(read: Callable[[int], bytes], checksums: np.ndarray) -> np.ndarray:
        chosen = dataclasses.replace(images, read=read)
        folder = str(tmp_path / "blocks")
        return embedding.embed(encoder, TINY, chosen, folder=folder, checksums=checksums)

    def die_at_nine(number: int) -> bytes:
        if number == 9:
            raise KeyboardInterrupt
        return images.read(number)

    with pytest.raises(KeyboardInterrupt):
        embed(die_at_nine, checksums)
    read = []
    found = embed(lambda number: read.append(number) or images.read(number), checksums)
    assert sorted(read) == [8, 9, 10]
    np.testing.assert_array_equal(found, embedding.embed(encoder, TINY, images))
    read.clear()
    checksums[5] += 1  # another image in its block
    embed(lambda number: read.append(number) or images.read(number), checksums)
    assert sorted(read) == [4, 5, 6, 7]


def test_other_weights_find_no_block_of_the_first(encoder, tmp_path):
    images, checksums = make_images(), np.arange(COUNT)
    kept = dict(folder=str(tmp_path), checksums=checksums)
    first = embedding.embed(encoder, TINY, images, **kept)
    second = embedding.embed(siamese.build_encoder(TINY), TINY, images, **kept)
    assert not np.allclose(first, second)


def test_broken_images_are_named_and_the_others_decoded():
    def read(number: int) -> bytes:
        if number == 1:
            raise BadImage("no box")
        return images.read(number)

    images, broken = make_images({4: b"no image"}), {}
    chosen = dataclasses.replace(images, read=read)
    batches = list(embedding.load_batches(chosen, range(COUNT), TINY, 3, broken))
    assert broken == {1: "no box", 4: "no whole JPEG"}
    numbers = np.concatenate([batch.numbers for batch in batches]).tolist()
    assert numbers == [number for number in range(COUNT) if number not in broken]
    assert {side for batch in batches for side in batch.sides.tolist()} == {samples.SIDE}
    assert all(len(batch.pixels) == len(batch.numbers) for batch in batches)


def test_broken_images_come_in_order_whichever_thread_is_first():
    second = threading.Event()

    def read(number: int) -> bytes:
        if number == 1:
            second.wait(5)
            raise BadImage("slow")
        if number == 2:
            second.set()
            raise BadImage("fast")
        return images.read(number)

    images, broken = make_images({0: b"no image"}), dict[int, str]()
    chosen = dataclasses.replace(images, read=read)
    list(embedding.load_batches(chosen, range(COUNT), TINY, 4, broken))
    assert list(broken.items()) == [(0, "no whole JPEG"), (1, "slow"), (2, "fast")]


def test_an_image_that_cannot_be_embedded_is_one_line(encoder):
    with pytest.raises(UserError, match=r"4\.jpg cannot be embedded: no whole JPEG"):
        embedding.embed(encoder, TINY, make_images({4: b"no image"}))


def test_embeddings_that_are_not_finite_name_their_first_image():
    found = np.zeros((3, 2), np.float32)
    found[1:] = np.nan
    with pytest.raises(UserError, match=r"2 of 3 embeddings are not finite, .* b\.jpg: .*again"):
        embedding.require_finite(found, ["a.jpg", "b.jpg", "c.jpg"])
