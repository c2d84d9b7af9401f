import numpy as np
import pytest

from fv.whitening import within_class

RNG = np.random.default_rng(0)
SPREAD = np.array([3.0, 1.0, 0.5])


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    people = RNG.normal(size=(4000, 3))
    return tuple(people + SPREAD * RNG.normal(size=people.shape) for _ in range(2))


def test_the_covariance_is_that_of_images_around_their_person_not_of_people(pairs):
    np.testing.assert_allclose(within_class.covariance(*pairs), np.diag(SPREAD**2), atol=0.4)


def test_the_covariance_of_two_pairs_by_hand():
    first, second = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(within_class.covariance(first, second), [[0.25, 0.0], [0.0, 1.0]])


def test_whitened_pairs_differ_alike_in_every_direction(pairs):
    matrix = within_class.whitening(within_class.covariance(*pairs), shrinkage=1e-9)
    found = within_class.covariance(*(each @ matrix for each in pairs))
    np.testing.assert_allclose(found, np.eye(3) * found[0, 0], atol=1e-6)
    assert found[0, 0] == pytest.approx(np.trace(within_class.covariance(*pairs)) / 3)


def test_shrinkage_of_one_changes_nothing_and_what_lies_between_is_by_hand():
    within = np.diag([4.0, 1.0, 1.0])
    np.testing.assert_allclose(within_class.whitening(within, 1.0), np.eye(3), atol=1e-12)
    np.testing.assert_allclose(within_class.whitening(within, 0.5), np.diag(np.array([1.5, 0.75, 0.75]) ** -0.5), atol=1e-12)


def test_a_direction_in_which_no_pair_differs_is_no_division_by_zero():
    assert np.isfinite(within_class.whitening(np.diag([1.0, 0.0]), 0.1)).all()
