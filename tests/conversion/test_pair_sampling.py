import numpy as np
import pytest

from fv.conversion import pair_sampling
from fv.conversion.pair_sampling import Caps


@pytest.mark.parametrize(
    ("total", "count"), [(10, 10), (10, 6), (10, 5), (1000, 3), (10**15, 500), (1, 0), (0, 0)]
)
def test_distinct_integers_are_distinct_and_in_range(total, count):
    drawn = pair_sampling.distinct_integers(total, count, np.random.default_rng(0))
    assert len(drawn) == len(set(drawn.tolist())) == count
    assert all(0 <= value < total for value in drawn)


def test_distinct_integers_are_uniform():
    rng = np.random.default_rng(0)
    counts = np.bincount(
        np.concatenate([pair_sampling.distinct_integers(20, 5, rng) for _ in range(4000)]),
        minlength=20,
    )
    assert counts.min() > 0.85 * 1000 and counts.max() < 1.15 * 1000


def test_occurrences_count_earlier_equals():
    assert pair_sampling.count_earlier_occurrences(np.array([7, 3, 7, 7, 3])).tolist() == [
        0,
        0,
        1,
        2,
        1,
    ]
    assert pair_sampling.count_earlier_occurrences(np.array([], np.int64)).tolist() == []


def owners_of(pairs, sizes):
    return np.repeat(np.arange(len(sizes)), sizes)[pairs]


@pytest.mark.parametrize("sizes", [[5, 1, 2, 9], [500, 2, 40], [2], [1, 3, 4]], ids=str)
@pytest.mark.parametrize(
    "caps", [Caps(3, 100), Caps(100, 100), Caps(50, 2), Caps(100, 1), Caps(10**6, 3)], ids=str
)
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_pairs_are_of_one_identity_distinct_and_within_the_caps(sizes, caps, share):
    sizes = np.array(sizes)
    count = int(share * pair_sampling.count_genuine(sizes, caps))
    pairs = pair_sampling.sample_genuine(sizes, count, caps, np.random.default_rng(0))
    owners = owners_of(pairs, sizes)
    assert len(np.unique(pairs, axis=0)) == len(pairs) == count
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert (owners[:, 0] == owners[:, 1]).all()
    assert np.bincount(owners[:, 0], minlength=1).max(initial=0) <= caps.identity
    assert np.bincount(pairs.ravel(), minlength=1).max(initial=0) <= caps.image


@pytest.mark.parametrize("size", range(2, 12))
def test_where_the_caps_do_not_bind_every_pair_is_available(size):
    sizes, caps = np.array([size]), Caps(1000, 1000)
    assert pair_sampling.count_genuine(sizes, caps) == size * (size - 1) // 2
    assert (
        len(
            pair_sampling.sample_genuine(
                sizes, size * (size - 1) // 2, caps, np.random.default_rng(0)
            )
        )
        > 0
    )


def test_an_identity_with_many_images_shows_many_of_them():
    pairs = pair_sampling.sample_genuine(
        np.array([500]), 50, Caps(50, 10), np.random.default_rng(0)
    )
    assert len(np.unique(pairs)) == 100


def test_every_pair_of_an_identity_is_as_likely():
    rng, seen = np.random.default_rng(0), {}
    for _ in range(3000):
        for pair in map(
            tuple, pair_sampling.sample_genuine(np.array([5]), 4, Caps(4, 4), rng).tolist()
        ):
            seen[pair] = seen.get(pair, 0) + 1
    assert len(seen) == 10
    assert min(seen.values()) > 0.85 * 1200 and max(seen.values()) < 1.15 * 1200


NO_CAPS = Caps(10**6, 10**6)


def assert_sound(pairs, sizes, caps):
    owners = np.repeat(np.arange(len(sizes)), sizes)[pairs]
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert (owners[:, 0] != owners[:, 1]).all()
    assert np.bincount(owners.ravel()).max(initial=0) <= caps.identity
    assert np.bincount(pairs.ravel()).max(initial=0) <= caps.image


@pytest.mark.parametrize(
    "sizes",
    [[1, 1], [1] * 10, [5, 1, 2, 9], [500, 2, 40, 1], [20] * 30, [3] * 30, [1, 100], [2, 3]],
    ids=str,
)
@pytest.mark.parametrize("caps", [Caps(50, 50), Caps(3, 50), Caps(50, 2), Caps(5, 1)], ids=str)
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_as_many_as_there_are_can_be_had_distinct_and_within_the_caps(sizes, caps, share):
    sizes = np.array(sizes)
    count = int(share * pair_sampling.count_impostors(sizes, caps))
    for seed in range(10):
        pairs = pair_sampling.sample_impostors(sizes, count, caps, np.random.default_rng(seed))
        assert len(pairs) == count
        assert_sound(pairs, sizes, caps)


def test_pairs_that_would_have_to_repeat_are_not_counted():
    assert (
        pair_sampling.count_impostors(np.array([1, 1, 100]), Caps(50, 50)) == 51
    )  # the two single images meet once


def test_no_more_than_the_caps_allow_is_made():
    sizes = np.array([1, 1, 100])
    pairs = pair_sampling.sample_impostors(sizes, 75, Caps(50, 50), np.random.default_rng(0))
    assert len(pairs) == 51
    assert_sound(pairs, sizes, Caps(50, 50))


def test_no_image_is_preferred_where_no_cap_is_met():
    sizes = np.arange(1, 40)
    pairs = pair_sampling.sample_impostors(sizes, 100_000, NO_CAPS, np.random.default_rng(0))
    uses = np.bincount(pairs.ravel(), minlength=sizes.sum())
    assert uses.min() > 0.6 * uses.mean() and uses.max() < 1.4 * uses.mean()


def test_a_million_images_take_seconds():
    sizes = np.full(100_000, 10)
    pairs = pair_sampling.sample_impostors(sizes, 500_000, Caps(50, 50), np.random.default_rng(0))
    assert len(pairs) == 500_000
    assert_sound(pairs, sizes, Caps(50, 50))
