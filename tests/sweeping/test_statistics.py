import math

import pytest
from scipy import stats

from fv.sweeping import statistics


def test_mean_and_deviation_are_those_worked_by_hand():
    found = statistics.summarise({0: 0.80, 1: 0.82, 2: 0.87})
    assert found.mean == pytest.approx(0.83)
    assert found.deviation == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2))
    assert found.seeds == 3
    assert statistics.summarise({4: 0.8}) == statistics.Summary(0.8, None, 1)


def test_differences_are_paired_by_seed():
    found = statistics.compare({0: 0.80, 1: 0.82, 2: 0.87}, {2: 0.84, 0: 0.79, 1: 0.80, 3: 0.1})
    assert found.mean == pytest.approx(0.02)  # of 0.01, 0.02, 0.03
    assert found.standard_error == pytest.approx(0.01 / math.sqrt(3))
    assert found.seeds == 3


def test_three_seeds_need_four_and_a_third_standard_errors():
    error = 0.01 / math.sqrt(3)
    for mean, within in (
        (4.2 * error, True),
        (4.4 * error, False),
        (-4.2 * error, True),
        (-4.4 * error, False),
    ):
        found = statistics.compare(
            {0: mean - 0.01, 1: mean, 2: mean + 0.01}, {0: 0.0, 1: 0.0, 2: 0.0}
        )
        assert found.within_noise is within


def test_one_common_seed_has_no_error_and_none_no_difference():
    assert statistics.compare({0: 0.75, 1: 0.5}, {1: 0.25}) == statistics.Difference(
        0.25, None, 1, None
    )
    assert statistics.compare({0: 0.75}, {1: 0.25}) is None


def test_the_same_runs_differ_by_nothing():
    found = statistics.compare({0: 0.8, 1: 0.9}, {0: 0.8, 1: 0.9})
    assert (found.mean, found.standard_error, found.within_noise) == (0.0, 0.0, True)


def test_the_quantiles_are_student_s_and_never_too_small():
    for degrees, quantile in enumerate(statistics._T, 1):
        assert quantile == pytest.approx(stats.t.ppf(0.975, degrees), abs=6e-4)
    assert statistics._T[-1] > stats.t.ppf(0.975, 1000)
