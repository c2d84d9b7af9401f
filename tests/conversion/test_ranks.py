import numpy as np
import pytest

from fv.conversion import ranks


@pytest.mark.parametrize(
    ("total", "count"), [(10, 10), (10, 6), (10, 5), (1000, 3), (10**15, 500), (1, 0), (0, 0)]
)
def test_distinct_integers_are_distinct_and_in_range(total, count):
    drawn = ranks.distinct_integers(total, count, np.random.default_rng(0))
    assert len(drawn) == len(set(drawn.tolist())) == count
    assert all(0 <= value < total for value in drawn)


def test_distinct_integers_are_uniform():
    rng = np.random.default_rng(0)
    counts = np.bincount(
        np.concatenate([ranks.distinct_integers(20, 5, rng) for _ in range(4000)]), minlength=20
    )
    assert counts.min() > 0.85 * 1000 and counts.max() < 1.15 * 1000


def test_occurrences_count_earlier_equals():
    assert ranks.occurrences(np.array([7, 3, 7, 7, 3])).tolist() == [0, 0, 1, 2, 1]
    assert ranks.occurrences(np.array([], np.int64)).tolist() == []
