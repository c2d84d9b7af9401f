import numpy as np
import pytest

from fv.whitening import matrix

RNG = np.random.default_rng(0)
SPREAD = np.array([3.0, 1.0, 0.5])  # of images around their person
PEOPLE = np.array([1.0, 2.0, 0.5])  # of people
TINY = 1e-9  # shrinkage


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    people = PEOPLE * RNG.normal(size=(20_000, 3))
    return tuple(people + SPREAD * RNG.normal(size=people.shape) for _ in range(2))


def test_the_covariances_are_those_of_images_around_their_person_and_of_people(pairs):
    within, shared = matrix.covariances(*pairs)
    np.testing.assert_allclose(within, np.diag(SPREAD**2), atol=0.3)
    np.testing.assert_allclose(shared, np.diag(PEOPLE**2), atol=0.3)


def test_the_covariances_of_two_pairs_by_hand():
    first, second = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[2.0, 0.0], [1.0, 0.0]])
    within, shared = matrix.covariances(first, second)
    np.testing.assert_allclose(within, [[0.5, -0.5], [-0.5, 1.0]])
    np.testing.assert_allclose(shared, [[1.0, 0.5], [0.5, 0.0]])


def test_who_is_first_in_a_pair_does_not_matter(pairs):
    for one, other in zip(
        matrix.covariances(*pairs), matrix.covariances(*pairs[::-1]), strict=True
    ):
        np.testing.assert_allclose(one, other)


def test_a_direction_counts_by_its_spread_within_a_person_and_by_its_share_of_the_person():
    found = matrix.whitening(np.diag([4.0, 1.0, 0.25]), np.diag([4.0, 3.0, 0.0]), TINY)
    np.testing.assert_allclose(found, np.diag([1 / 2 * 1 / 2, 1.0 * 3 / 4, 0.0]), atol=1e-6)


def test_shrinkage_takes_the_spread_towards_its_mean_by_hand():
    within, shared = (
        np.diag([4.0, 1.0, 1.0]),
        np.eye(3),
    )  # a mean of 2; half of each is 3, 1.5 and 1.5
    np.testing.assert_allclose(
        matrix.whitening(within, shared, 0.5),
        np.diag([3.0**-0.5 / 4, *2 * [1.5**-0.5 / 2.5]]),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        matrix.whitening(within, shared, 1.0), np.eye(3) * 2**-0.5 / 3, atol=1e-12
    )


def test_in_whitened_space_it_is_the_best_linear_prediction_of_the_other_image(pairs):
    first, second = pairs
    within, shared = matrix.covariances(*pairs)
    values, directions = np.linalg.eigh(within)
    whitened = (directions * values**-0.5) @ directions.T
    either, other = (
        np.concatenate([first, second]) @ whitened,
        np.concatenate([second, first]) @ whitened,
    )
    fitted = np.linalg.lstsq(either, other, rcond=None)[0]
    np.testing.assert_allclose(matrix.whitening(within, shared, TINY), whitened @ fitted, atol=1e-6)


def test_people_are_told_apart_better_than_by_their_spread_alone_where_most_directions_say_nothing():
    people = np.array([3.0, 3.0, 3.0, *20 * [0.1]]) * RNG.normal(size=(2000, 23))
    pairs = [people + RNG.normal(size=people.shape) for _ in range(2)]
    told = {}
    for name, turn in (
        ("whole", matrix.whitening(*matrix.covariances(*pairs), TINY)),
        ("spread alone", np.eye(23)),
    ):
        first, second = (
            each @ turn / np.linalg.norm(each @ turn, axis=1, keepdims=True) for each in pairs
        )
        genuine, impostor = (
            np.sum(first * second, axis=1),
            np.sum(first * np.roll(second, 1, axis=0), axis=1),
        )
        told[name] = np.mean(genuine > impostor)
    assert told["whole"] > told["spread alone"] + 0.01


def test_a_direction_in_which_no_pair_differs_or_is_alike_is_no_division_by_zero():
    found = matrix.whitening(np.diag([1.0, 0.0]), np.diag([1.0, -0.1]), 0.1)
    assert np.isfinite(found).all() and not found[1].any()
