import dataclasses

import numpy as np
import pytest

from fv.evaluation import scorers
from fv.evaluation.describing import GREY_SIDE, Description
from fv.model import siamese
from tests.conftest import TINY
from tests.evaluation.making import pair_set

IMAGES = 36


@pytest.fixture(scope="module")
def compared():
    """All similarities of pairs of which the first joins an image with itself."""
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(IMAGES, TINY.embedding_size)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    greys = rng.integers(0, 256, (IMAGES, GREY_SIDE, GREY_SIDE)).astype(np.uint8)
    greys[1] = greys[0] // 2
    pairs = pair_set()
    first, second = pairs.first.copy(), pairs.second.copy()
    first[:2], second[:2] = 0, (0, 1)
    zeros = np.zeros(IMAGES)
    found = Description(embeddings, embeddings, greys, zeros, zeros, zeros, {})
    model = siamese.build_siamese(TINY, identities=2)
    pairs = dataclasses.replace(pairs, first=first, second=second)
    return pairs, found, scorers.score(pairs, found, model)


def test_the_model_compares_embeddings_by_its_head(compared):
    pairs, found, similarities = compared
    cosine = np.sum(found.embeddings[pairs.first] * found.embeddings[pairs.second], axis=1)
    np.testing.assert_allclose(similarities["fv"], (1 + cosine) / 2, atol=1e-6)


def test_every_baseline_finds_an_image_most_like_itself(compared):
    _, _, similarities = compared
    assert len(similarities) == 5
    for values in similarities.values():
        assert values[0] == values.max() > values[1]


def test_earth_mover_s_distance_is_the_mean_grey_level_that_every_pixel_moves(compared):
    pairs, found, similarities = compared
    a, b = (
        np.sort(found.greys[side[1]].ravel()).astype(float) for side in (pairs.first, pairs.second)
    )
    assert -similarities["EMD of grey histograms"][1] == pytest.approx(
        np.abs(a - b).mean(), rel=1e-4
    )


def test_raw_pixels_are_compared_by_their_euclidean_distance(compared):
    pairs, found, similarities = compared
    a, b = (found.greys[side[1]].astype(float) for side in (pairs.first, pairs.second))
    assert -similarities["raw-pixel L2"][1] == pytest.approx(np.linalg.norm(a - b), rel=1e-5)
