import numpy as np
import pytest

from fv.conversion import impostor
from fv.conversion.caps import Caps

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
    count = int(share * impostor.count_available(sizes, caps))
    for seed in range(10):
        pairs = impostor.sample_impostors(sizes, count, caps, np.random.default_rng(seed))
        assert len(pairs) == count
        assert_sound(pairs, sizes, caps)


def test_pairs_that_would_have_to_repeat_are_not_counted():
    assert (
        impostor.count_available(np.array([1, 1, 100]), Caps(50, 50)) == 51
    )  # the two single images meet once


def test_no_more_than_the_caps_allow_is_made():
    sizes = np.array([1, 1, 100])
    pairs = impostor.sample_impostors(sizes, 75, Caps(50, 50), np.random.default_rng(0))
    assert len(pairs) == 51
    assert_sound(pairs, sizes, Caps(50, 50))


def test_no_image_is_preferred_where_no_cap_is_met():
    sizes = np.arange(1, 40)
    pairs = impostor.sample_impostors(sizes, 100_000, NO_CAPS, np.random.default_rng(0))
    uses = np.bincount(pairs.ravel(), minlength=sizes.sum())
    assert uses.min() > 0.6 * uses.mean() and uses.max() < 1.4 * uses.mean()


def test_a_million_images_take_seconds():
    sizes = np.full(100_000, 10)
    pairs = impostor.sample_impostors(sizes, 500_000, Caps(50, 50), np.random.default_rng(0))
    assert len(pairs) == 500_000
    assert_sound(pairs, sizes, Caps(50, 50))
