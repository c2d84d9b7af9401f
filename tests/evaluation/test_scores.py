import dataclasses

import numpy as np
import pytest
import simplejpeg

from benchmarks import faces as benchmark
from fv import metrics
from fv.evaluation import scores
from fv.evaluation.scores import GREY_SIDE, ImageFeatures
from fv.faces.renderer import render_jpeg
from fv.model import siamese
from tests.conftest import TINY
from tests.evaluation.making import pair_set, record_progress

PEOPLE, IMAGES, SIZE, SEED = 60, 4, 56, 8
PAIRS = 800


@pytest.fixture(scope="module")
def baselines_faces():
    encoded = [
        [render_jpeg(SEED, person, image, SIZE) for image in range(IMAGES)]
        for person in range(PEOPLE)
    ]
    return np.stack(
        [[benchmark.to_grey(simplejpeg.decode_jpeg(image)) for image in row] for row in encoded]
    )


def test_ssim_of_an_image_with_itself_is_1():
    image = np.random.default_rng(0).integers(0, 256, (1, 20, 20)).astype(np.float32)
    assert scores.ssim(image, image) == pytest.approx(1.0)
    assert scores.ssim(image, 255 - image)[0] < 0


def test_ssim_of_flat_images_is_their_luminance_term():
    dark, bright = np.full((1, 9, 9), 50.0), np.full((1, 9, 9), 100.0)
    c1 = (0.01 * 255) ** 2
    assert scores.ssim(dark, bright)[0] == pytest.approx(
        (2 * 50 * 100 + c1) / (50**2 + 100**2 + c1)
    )


def test_pixel_distance_is_the_euclidean_one():
    zero, other = np.zeros((1, 2, 2, 1), np.uint8), np.full((1, 2, 2, 1), 3, np.uint8)
    assert scores.pixel_distance(zero, other)[0] == pytest.approx(6.0)


@pytest.mark.parametrize(
    "similarity",
    [lambda a, b: -scores.pixel_distance(a, b), scores.ssim],
    ids=["pixels", "ssim"],
)
def test_faces_are_not_told_apart_without_learning(baselines_faces, similarity):
    scored = [benchmark.score(baselines_faces, similarity, half, PAIRS) for half in (0, 1)]
    threshold = metrics.roc(*scored[0]).best_threshold()
    assert metrics.accuracy(*scored[1], threshold) < 0.75


SCORERS_IMAGES = 36


@pytest.fixture(scope="module")
def compared():
    """All similarities of pairs of which the first joins an image with itself."""
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(SCORERS_IMAGES, TINY.embedding_size)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    greys = rng.integers(0, 256, (SCORERS_IMAGES, GREY_SIDE, GREY_SIDE)).astype(np.uint8)
    greys[1] = greys[0] // 2
    pairs = pair_set()
    first, second = pairs.first.copy(), pairs.second.copy()
    first[:2], second[:2] = 0, (0, 1)
    zeros = np.zeros(SCORERS_IMAGES)
    features = ImageFeatures(embeddings, embeddings, greys, zeros, zeros, zeros, {})
    model = siamese.build_siamese(TINY, identities=2)
    pairs = dataclasses.replace(pairs, first=first, second=second)
    return pairs, features, scores.score_pairs(pairs, features, model)


def test_the_model_compares_embeddings_by_its_head(compared):
    pairs, features, similarities = compared
    cosine = np.sum(features.embeddings[pairs.first] * features.embeddings[pairs.second], axis=1)
    np.testing.assert_allclose(similarities["fv"], (1 + cosine) / 2, atol=1e-6)


def test_the_progress_counts_the_pairs_of_every_scorer(compared, monkeypatch):
    pairs, features, similarities = compared
    shown = record_progress(monkeypatch)
    scores.score_pairs(pairs, features, siamese.build_siamese(TINY, identities=2))
    assert [line.n for line in shown] == [len(pairs) * len(similarities)]
    assert shown[0].total == shown[0].n


def test_every_baseline_finds_an_image_most_like_itself(compared):
    _, _, similarities = compared
    assert len(similarities) == 5
    for values in similarities.values():
        assert values[0] == values.max() > values[1]


def test_earth_mover_s_distance_is_the_mean_move_in_grey_levels(compared):
    pairs, features, similarities = compared
    a, b = (
        np.sort(features.greys[side[1]].ravel()).astype(float)
        for side in (pairs.first, pairs.second)
    )
    assert -similarities["EMD of grey histograms"][1] == pytest.approx(
        np.abs(a - b).mean(), rel=1e-4
    )


def test_raw_pixels_are_compared_by_their_euclidean_distance(compared):
    pairs, features, similarities = compared
    a, b = (features.greys[side[1]].astype(float) for side in (pairs.first, pairs.second))
    assert -similarities["raw-pixel L2"][1] == pytest.approx(np.linalg.norm(a - b), rel=1e-5)
