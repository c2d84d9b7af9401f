import numpy as np
import pytest

from fv.conversion import genuine


def owners_of(pairs, sizes):
    return np.repeat(np.arange(len(sizes)), sizes)[pairs]


@pytest.mark.parametrize(("sizes", "cap"), [([5, 1, 2, 9], 3), ([5, 1, 2, 9], 100), ([500, 2, 40], 50), ([2], 1)])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_pairs_are_of_one_identity_distinct_and_within_the_cap(sizes, cap, share):
    sizes = np.array(sizes)
    count = int(share * genuine.count_available(sizes, cap))
    pairs = genuine.sample_genuine(sizes, count, cap, np.random.default_rng(0))
    owners = owners_of(pairs, sizes)
    assert len(np.unique(pairs, axis=0)) == len(pairs) == count
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert (owners[:, 0] == owners[:, 1]).all()
    assert np.bincount(owners[:, 0], minlength=1).max(initial=0) <= cap


def test_every_pair_of_an_identity_is_as_likely():
    rng, seen = np.random.default_rng(0), {}
    for _ in range(3000):
        for pair in map(tuple, genuine.sample_genuine(np.array([5]), 4, 4, rng).tolist()):
            seen[pair] = seen.get(pair, 0) + 1
    assert len(seen) == 10
    assert min(seen.values()) > 0.85 * 1200 and max(seen.values()) < 1.15 * 1200
