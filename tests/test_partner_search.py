import numpy as np
import pytest

from fv import partner_search
from fv.partner_search import NOBODY, FixedPoint, find_partners

SIZES = [1, 7, 2, 40, 1, 12, 3]
OWNERS = np.repeat(np.arange(len(SIZES)), SIZES)
ONE_TILE = 1 << 20


@pytest.fixture(scope="module")
def embeddings() -> FixedPoint:
    """Of the images of `OWNERS`; some of different people are equal, so that there are ties."""
    vectors = np.random.default_rng(3).normal(size=(len(OWNERS), 8))
    vectors[5:9] = vectors[60:64]
    return FixedPoint.of(np.float32(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)))


def brute_force(embeddings: FixedPoint, count: int, *, genuine: bool) -> list[list[int]]:
    numbers = embeddings.numbers.astype(np.int64)
    found = []
    for image, products in enumerate(numbers @ numbers.T):
        same = OWNERS[image] == OWNERS
        others = [other for other in np.flatnonzero(same == genuine) if other != image]
        sign = 1 if genuine else -1
        found.append(sorted(others, key=lambda other: (sign * products[other], other))[:count])
    return found


@pytest.mark.parametrize("tile_bytes", [1, 9 * 10**2, 9 * 33**2, ONE_TILE])
def test_both_searches_equal_brute_force_however_small_the_tiles(
    embeddings, tile_bytes, monkeypatch
):
    monkeypatch.setattr(partner_search, "_TILE_BYTES", tile_bytes)
    for genuine in (False, True):
        found = find_partners(embeddings, OWNERS, 5, genuine=genuine)
        rows = [[image for image in row if image != NOBODY] for row in found.tolist()]
        assert rows == brute_force(embeddings, 5, genuine=genuine)


def test_the_largest_sum_is_still_exact():
    ones = FixedPoint.of(np.float32([[1.0, 0.0]] * 2))
    assert ones.numbers[0] @ ones.numbers[0] < 2**24
    spread = FixedPoint.of(np.full((1, 8192), 8192**-0.5, np.float32))
    assert (spread.numbers.astype(np.int64) ** 2).sum() < 2**24
