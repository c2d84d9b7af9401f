import numpy as np
import pytest

from fv.conversion import genuine
from fv.conversion.caps import Caps


def owners_of(pairs, sizes):
    return np.repeat(np.arange(len(sizes)), sizes)[pairs]


@pytest.mark.parametrize("sizes", [[5, 1, 2, 9], [500, 2, 40], [2], [1, 3, 4]], ids=str)
@pytest.mark.parametrize(
    "caps", [Caps(3, 100), Caps(100, 100), Caps(50, 2), Caps(100, 1), Caps(10**6, 3)], ids=str
)
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_pairs_are_of_one_identity_distinct_and_within_the_caps(sizes, caps, share):
    sizes = np.array(sizes)
    count = int(share * genuine.count_available(sizes, caps))
    pairs = genuine.sample_genuine(sizes, count, caps, np.random.default_rng(0))
    owners = owners_of(pairs, sizes)
    assert len(np.unique(pairs, axis=0)) == len(pairs) == count
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert (owners[:, 0] == owners[:, 1]).all()
    assert np.bincount(owners[:, 0], minlength=1).max(initial=0) <= caps.identity
    assert np.bincount(pairs.ravel(), minlength=1).max(initial=0) <= caps.image


@pytest.mark.parametrize("size", range(2, 12))
def test_where_the_caps_do_not_bind_every_pair_is_available(size):
    sizes, caps = np.array([size]), Caps(1000, 1000)
    assert genuine.count_available(sizes, caps) == size * (size - 1) // 2
    assert (
        len(genuine.sample_genuine(sizes, size * (size - 1) // 2, caps, np.random.default_rng(0)))
        > 0
    )


def test_an_identity_with_many_images_shows_many_of_them():
    pairs = genuine.sample_genuine(np.array([500]), 50, Caps(50, 10), np.random.default_rng(0))
    assert len(np.unique(pairs)) == 100


def test_every_pair_of_an_identity_is_as_likely():
    rng, seen = np.random.default_rng(0), {}
    for _ in range(3000):
        for pair in map(tuple, genuine.sample_genuine(np.array([5]), 4, Caps(4, 4), rng).tolist()):
            seen[pair] = seen.get(pair, 0) + 1
    assert len(seen) == 10
    assert min(seen.values()) > 0.85 * 1200 and max(seen.values()) < 1.15 * 1200
