"""Tests of fv.evaluation.baselines: the floor itself, and that synthetic faces are not solved by it."""

import numpy as np
import pytest

from fv.evaluation import baselines
from fv.faces import camera
from fv.faces.render import render_jpeg

PEOPLE, IMAGES, SIZE, SEED = 60, 4, 56, 8
PAIRS = 800


@pytest.fixture(scope="module")
def faces():
    encoded = [[render_jpeg(SEED, person, image, SIZE) for image in range(IMAGES)] for person in range(PEOPLE)]
    return np.stack([[camera.grey(camera.decode(image)) for image in row] for row in encoded])


def test_ssim_of_an_image_with_itself_is_1():
    image = np.random.default_rng(0).integers(0, 256, (1, 20, 20)).astype(np.float32)
    assert baselines.ssim(image, image) == pytest.approx(1.0)
    assert baselines.ssim(image, 255 - image)[0] < 0


def test_ssim_of_flat_images_is_their_luminance_term():
    dark, bright = np.full((1, 9, 9), 50.0), np.full((1, 9, 9), 100.0)
    c1 = (0.01 * 255) ** 2
    assert baselines.ssim(dark, bright)[0] == pytest.approx((2 * 50 * 100 + c1) / (50**2 + 100**2 + c1))


def test_pixel_distance_is_the_euclidean_one():
    zero, other = np.zeros((1, 2, 2, 1), np.uint8), np.full((1, 2, 2, 1), 3, np.uint8)
    assert baselines.pixel_distance(zero, other)[0] == pytest.approx(6.0)


def test_pairs_are_balanced_and_never_an_image_with_itself():
    first, second, genuine = baselines.sample_pairs(np.arange(5, 9), 3, 100, seed=1)
    assert genuine.sum() == 50
    assert ((first[:, 0] == second[:, 0]) == genuine).all()
    assert (first[:, 1] != second[:, 1]).all()
    assert set(first[:, 0]) <= set(range(5, 9))


def test_best_threshold_splits_what_can_be_split():
    similarities, genuine = np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, False, True, True])
    assert baselines.best_threshold(similarities, genuine) == 0.6
    assert baselines.accuracy(similarities, genuine, 0.6) == 1.0


@pytest.mark.parametrize(
    "similarity", [lambda a, b: -baselines.pixel_distance(a, b), baselines.ssim], ids=["pixels", "ssim"]
)
def test_faces_are_not_told_apart_without_learning(faces, similarity):
    scored = []
    for half in (0, 1):
        first, second, genuine = baselines.sample_pairs(np.arange(half, PEOPLE, 2), IMAGES, PAIRS, seed=half)
        scored.append((similarity(faces[tuple(first.T)], faces[tuple(second.T)]), genuine))
    threshold = baselines.best_threshold(*scored[0])
    assert baselines.accuracy(*scored[1], threshold) < 0.75
