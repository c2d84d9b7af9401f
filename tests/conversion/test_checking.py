import io

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from fv.conversion import checking
from fv.faces import dataset
from tests import samples
from tests.conversion import making


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Grey pictures of 12 made-up people, 5 of each, uint8."""
    options = dataset.FacesOptions(
        output=str(tmp_path_factory.mktemp("faces")),
        identities=12,
        images_per_identity=5,
        image_size=112,
        workers=2,
    )
    dataset.write_dataset(options)
    paths = [
        dataset.image_path(options.output, who, image) for who in range(12) for image in range(5)
    ]
    greys = []
    for path in paths:
        with open(path, "rb") as file:
            greys.append(cv2.cvtColor(simplejpeg.decode_jpeg(file.read()), cv2.COLOR_RGB2GRAY))
    return greys


def hashes(pictures):
    return np.stack([checking.perceptual_hash(picture) for picture in pictures])


def compress(grey, quality):
    encoded = making.encode(Image.fromarray(grey), quality=quality)
    return np.asarray(Image.open(io.BytesIO(encoded)))


def scale(grey, factor):
    return cv2.resize(
        grey,
        None,
        fx=factor,
        fy=factor,
        interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC,
    )


def brighten(grey):
    return cv2.convertScaleAbs(grey, alpha=1.05, beta=5)


CHANGES = {
    "quality 75": lambda grey: compress(grey, 75),
    "half the size": lambda grey: scale(grey, 0.5),
    "half as large again": lambda grey: scale(grey, 1.5),
    "four times the size": lambda grey: scale(grey, 4),
    "brighter": brighten,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_another_file_of_a_picture_lies_within_the_distance(faces, change):
    away = checking.hamming_distances(hashes(faces), hashes(map(change, faces)))
    assert (away <= checking.DISTANCE).mean() > 0.95 and np.median(away) <= checking.DISTANCE / 2


@pytest.mark.parametrize("size", [(112, 112), (92, 112)])
def test_different_pictures_of_aligned_faces_lie_far_apart(faces, size):
    found = hashes(cv2.resize(grey, size, interpolation=cv2.INTER_AREA) for grey in faces)
    away = checking.hamming_distances(found[:, None], found)
    assert away[np.triu_indices(len(found), 1)].min() > 2 * checking.DISTANCE


def test_the_pictures_of_the_tests_are_told_apart():
    small = [cv2.cvtColor(making.pixels(seed), cv2.COLOR_RGB2GRAY) for seed in range(100)]
    noisy = [
        np.asarray(Image.open(io.BytesIO(samples.image_bytes(who, 0))).convert("L"))
        for who in range(100)
    ]
    for pictures in (small, noisy):
        found = hashes(pictures)
        assert (
            checking.hamming_distances(found[:, None], found)[np.triu_indices(100, 1)].min()
            > checking.DISTANCE
        )


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (3000, 2), (250, 250)])
def test_any_size_has_a_hash_and_even_surfaces_have_one_in_common(shape):
    found = hashes(np.full(shape, level, np.uint8) for level in (0, 3, 128, 255))
    assert found.shape == (4, checking.HASH_WORDS) and found.dtype == np.uint64
    assert not found.any()


def test_a_hash_depends_on_the_pixels_alone(faces):
    strided = np.asfortranarray(faces[0])
    assert (checking.perceptual_hash(strided) == checking.perceptual_hash(faces[0])).all()


def test_distances_count_bits():
    a = np.array([[0, 0, 0, 0], [2**64 - 1, 1, 0, 0]], np.uint64)
    assert checking.hamming_distances(a, a[:1]).tolist() == [0, 65]


def test_a_digest_is_64_bits_of_sha_256():
    assert (
        checking.hash_bytes(b"") == 0xE3B0C44298FC1C14
    )  # FIPS 180-4's SHA-256 of the empty message begins so
    assert checking.hash_bytes(b"a") != checking.hash_bytes(b"b")
    assert np.uint64(checking.hash_bytes(b"abc")) == checking.hash_bytes(b"abc")
