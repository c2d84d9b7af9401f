import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from fv import calibration, metrics
from fv.errors import UserError

SIMILARITIES = np.linspace(0, 1, 20, dtype=np.float32)
LABELS = np.array([0] * 8 + [1, 0, 1, 0] + [1] * 8)


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    return np.clip(0.6 + 0.15 * labels + rng.normal(0, 0.1, 2000), 0, 1), labels


def test_the_fit_is_that_of_a_logistic_regression(scored):
    similarities, labels = scored
    fitted = calibration.fit(similarities, labels)
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        similarities[:, np.newaxis], labels
    )
    assert fitted.slope == pytest.approx(
        peer.coef_[0, 0], rel=0.02
    )  # targets held off 0 and 1 make it a little flatter
    np.testing.assert_allclose(
        fitted.probability(similarities),
        peer.predict_proba(similarities[:, np.newaxis])[:, 1],
        atol=0.01,
    )


def test_probabilities_agree_with_the_share_that_is_genuine(scored):
    similarities, labels = scored
    fitted = calibration.fit(similarities[::2], labels[::2])
    found = calibration.measure(fitted.probability(similarities[1::2]), labels[1::2])
    assert (
        found["expected_calibration_error"] < 0.06
        and found["brier"] < 0.2
        and found["pairs"] == 1000
    )
    assert (
        calibration.measure(fitted.probability(similarities[1::2]), 1 - labels[1::2])["brier"] > 0.4
    )


def test_separable_classes_give_finite_calibrations_in_order():
    similarities, labels = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]), np.array([0, 0, 0, 1, 1, 1])
    probabilities = calibration.fit(similarities, labels).probability(similarities)
    assert (
        np.all(np.diff(probabilities) > 0) and probabilities[0] > 0.05 and probabilities[-1] < 0.95
    )


def test_a_model_worse_than_chance_gets_a_probability_that_says_so(scored):
    similarities, labels = scored
    fitted = calibration.fit(similarities, 1 - labels)
    assert fitted.slope == 0 and fitted.probability(similarities)[0] == pytest.approx(
        1 - labels.mean(), abs=0.01
    )


@pytest.mark.parametrize("similarity", [0.0, 0.5, 0.9999999, 1.0])
def test_constant_scores_give_the_share_of_genuine_pairs(
    similarity,
):
    labels = (np.arange(70_000) % 7 == 0).astype(int)
    fitted = calibration.fit(np.full(len(labels), similarity, np.float32), labels)
    assert fitted.slope == 0 and fitted.probability([similarity])[0] == pytest.approx(
        1 / 7, abs=1e-3
    )


@pytest.mark.parametrize(("genuine", "spread"), [(1, 1.0), (30, 1e-5), (150_000, 1.0)])
def test_many_pairs_of_however_unequal_classes_are_fitted_at_any_spread(genuine, spread):
    labels = np.zeros(300_000, int)
    labels[:genuine] = 1
    similarities = 0.5 + spread * np.random.default_rng(0).normal(1.5 * labels, 0.1)
    fitted = calibration.fit(similarities, labels)
    assert fitted.slope > 0
    assert fitted.probability(similarities).sum() == pytest.approx(genuine, rel=0.01, abs=2)


def test_pairs_of_one_class_are_refused():
    with pytest.raises(UserError, match="no impostor pair"):
        calibration.fit(np.array([0.1, 0.2]), np.array([1, 1]))


def test_brier_score_and_reliability_of_a_hand_worked_case():
    probabilities, labels = np.array([0.05, 0.05, 0.55, 0.55, 1.0]), np.array([0, 0, 1, 0, 1])
    found = calibration.measure(probabilities, labels)
    assert found["brier"] == pytest.approx((2 * 0.05**2 + 0.45**2 + 0.55**2) / 5)
    assert found["expected_calibration_error"] == pytest.approx((0.1 + 0.1) / 5)
    assert calibration.reliability(probabilities, labels) == [
        dict(pairs=2, probability=pytest.approx(0.05), genuine=0.0),
        dict(pairs=2, probability=pytest.approx(0.55), genuine=0.5),
        dict(pairs=1, probability=1.0, genuine=1.0),
    ]


def test_brier_score_is_scikit_learns(scored):
    similarities, labels = scored
    assert calibration.measure(similarities, labels)["brier"] == pytest.approx(
        brier_score_loss(labels, similarities)
    )


def choose(**options):
    return calibration.choose_threshold(
        SIMILARITIES, LABELS, "val", **({"threshold": None, "target_far": None} | options)
    )


def test_the_most_accurate_threshold_comes_with_its_counts():
    point = choose()
    assert point.threshold == metrics.roc(SIMILARITIES, LABELS).best_threshold()
    assert point.far == point.impostors_accepted / 10 and point.frr == point.genuine_rejected / 10
    accuracy = 1 - (point.impostors_accepted + point.genuine_rejected) / 20
    assert accuracy == metrics.accuracy(SIMILARITIES, LABELS, point.threshold)


def test_a_target_far_is_kept_with_as_many_genuine_pairs_as_it_allows():
    point = choose(target_far=0.1)
    assert (point.impostors_accepted, point.impostors, point.genuine_rejected) == (1, 10, 1)
    assert choose(target_far=0.2).genuine_rejected == 0


def test_a_given_threshold_is_measured():
    point = choose(threshold=0.0)
    assert (point.far, point.frr, point.chosen_by) == (1.0, 0.0, "given by --threshold")


def test_a_far_that_the_pairs_cannot_show_is_refused_with_their_number():
    with pytest.raises(
        UserError, match="val has 10 impostor pairs, which can show no rate below 0.1"
    ):
        choose(target_far=0.01)
