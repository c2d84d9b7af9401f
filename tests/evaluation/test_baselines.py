"""Tests of fv.evaluation.baselines: the floor itself, and that synthetic faces are not solved by it."""

import numpy as np
import pytest
import simplejpeg

from benchmarks import faces as benchmark
from fv import metrics
from fv.evaluation import baselines
from fv.faces.renderer import render_jpeg

PEOPLE, IMAGES, SIZE, SEED = 60, 4, 56, 8
PAIRS = 800


@pytest.fixture(scope="module")
def faces():
    encoded = [
        [render_jpeg(SEED, person, image, SIZE) for image in range(IMAGES)]
        for person in range(PEOPLE)
    ]
    return np.stack(
        [[benchmark.to_grey(simplejpeg.decode_jpeg(image)) for image in row] for row in encoded]
    )


def test_ssim_of_an_image_with_itself_is_1():
    image = np.random.default_rng(0).integers(0, 256, (1, 20, 20)).astype(np.float32)
    assert baselines.ssim(image, image) == pytest.approx(1.0)
    assert baselines.ssim(image, 255 - image)[0] < 0


def test_ssim_of_flat_images_is_their_luminance_term():
    dark, bright = np.full((1, 9, 9), 50.0), np.full((1, 9, 9), 100.0)
    c1 = (0.01 * 255) ** 2
    assert baselines.ssim(dark, bright)[0] == pytest.approx(
        (2 * 50 * 100 + c1) / (50**2 + 100**2 + c1)
    )


def test_pixel_distance_is_the_euclidean_one():
    zero, other = np.zeros((1, 2, 2, 1), np.uint8), np.full((1, 2, 2, 1), 3, np.uint8)
    assert baselines.pixel_distance(zero, other)[0] == pytest.approx(6.0)


@pytest.mark.parametrize(
    "similarity",
    [lambda a, b: -baselines.pixel_distance(a, b), baselines.ssim],
    ids=["pixels", "ssim"],
)
def test_faces_are_not_told_apart_without_learning(faces, similarity):
    scored = [benchmark.score(faces, similarity, half, PAIRS) for half in (0, 1)]
    threshold = metrics.best_threshold(*scored[0])
    assert metrics.accuracy(*scored[1], threshold) < 0.75
