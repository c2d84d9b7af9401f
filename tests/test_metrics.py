import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from fv import metrics
from fv.errors import UserError

# Two of three genuine pairs above both impostor pairs, the third tied with one of them.
TIED = np.array([0.9, 0.8, 0.4, 0.4, 0.1]), np.array([1, 1, 1, 0, 0])
PERFECT = np.array([0.9, 0.7, 0.3, 0.1]), np.array([1, 1, 0, 0])
INVERTED = PERFECT[0], 1 - PERFECT[1]
IDENTICAL = np.full(6, 0.5), np.array([1, 0, 1, 0, 1, 0])


def sample(seed: int, decimals: int, pairs: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping similarities [pairs], rounded so that there are ties, of unequal classes."""
    generator = np.random.default_rng(seed)
    labels = np.r_[1, 0, generator.random(pairs - 2) < 0.35].astype(int)
    return np.round(generator.normal(labels, 1.0), decimals), labels


SAMPLES = [sample(seed, decimals) for seed, decimals in itertools.product(range(4), (0, 1, 6))]


@pytest.mark.parametrize("pairs", [*SAMPLES, TIED, PERFECT, INVERTED, IDENTICAL])
def test_roc_has_scikit_learns_points(pairs):
    similarities, labels = pairs
    curve = metrics.roc(similarities, labels)
    far, tar, thresholds = sklearn_metrics.roc_curve(labels, similarities, drop_intermediate=False)
    np.testing.assert_array_equal(curve.far, far)
    np.testing.assert_array_equal(curve.tar, tar)
    np.testing.assert_array_equal(curve.thresholds, thresholds)


@pytest.mark.parametrize("pairs", [*SAMPLES, TIED, PERFECT, INVERTED, IDENTICAL])
def test_auc_is_scikit_learns(pairs):
    similarities, labels = pairs
    assert metrics.roc(similarities, labels).auc() == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, similarities), abs=1e-12
    )


def test_auc_counts_a_tie_as_half_a_win():
    assert metrics.roc(*TIED).auc() == (2 + 2 + 1.5) / 6
    assert metrics.roc(*IDENTICAL).auc() == 0.5


@pytest.mark.parametrize("similarities, labels", SAMPLES)
def test_counts_of_the_curve_are_those_of_the_decision_rule(similarities, labels):
    curve = metrics.roc(similarities, labels)
    for threshold, genuine, impostors in zip(
        curve.thresholds, curve.genuine_accepted, curve.impostors_accepted, strict=True
    ):
        assert genuine == np.sum(similarities[labels == 1] >= threshold)
        assert impostors == np.sum(similarities[labels == 0] >= threshold)


@pytest.mark.parametrize("pairs", [*SAMPLES, TIED, PERFECT, INVERTED, IDENTICAL])
def test_no_threshold_is_more_accurate_than_the_best(pairs):
    similarities, labels = pairs
    threshold = metrics.roc(similarities, labels).best_threshold()
    best = metrics.accuracy(similarities, labels, threshold)
    candidates = [*similarities, similarities.max() + 1]
    assert best == max(
        metrics.accuracy(similarities, labels, threshold) for threshold in candidates
    )


def test_best_threshold_is_half_way_between_similarities():
    assert metrics.roc(*PERFECT).best_threshold() == pytest.approx(0.5)


def test_best_threshold_rejects_every_pair_on_a_tie():
    for similarities, labels in (IDENTICAL, INVERTED):
        threshold = metrics.roc(similarities, labels).best_threshold()
        assert similarities.max() < threshold < similarities.max() + 1e-6


def test_best_threshold_accepts_constant_pairs_if_most_are_genuine():
    assert metrics.roc(np.full(3, 0.5), np.array([1, 1, 0])).best_threshold() == 0.5


def test_of_equally_accurate_thresholds_the_one_with_far_nearest_frr_wins():
    # Three of four are correct above 0.6 (FAR 0, FRR 1/2) and above 0.2 (FAR 1/2, FRR 0).
    labels = np.array([1, 0, 1, 0])
    curve = metrics.roc(np.array([0.8, 0.6, 0.4, 0.2]), labels)
    assert curve.best_threshold() == pytest.approx(0.7)
    # Four of six are correct at several thresholds, with equal errors at one.
    similarities = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    curve = metrics.roc(similarities, np.array([1, 0, 1, 0, 1, 0]))
    assert curve.best_threshold() == pytest.approx(0.65)


def test_best_threshold_and_figures_do_not_depend_on_the_order_of_pairs():
    similarities, labels = SAMPLES[0]
    order = np.random.default_rng(1).permutation(len(labels))
    threshold = metrics.roc(similarities, labels).best_threshold()
    assert metrics.roc(similarities[order], labels[order]).best_threshold() == threshold
    assert metrics.evaluate(similarities[order], labels[order], threshold) == metrics.evaluate(
        similarities, labels, threshold
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_best_threshold_separates_neighbouring_numbers_of_every_precision(dtype):
    lower = dtype(0.3)
    similarities = np.array([lower, np.nextafter(lower, dtype(1))])
    threshold = metrics.roc(similarities, np.array([0, 1])).best_threshold()
    assert metrics.accuracy(similarities, np.array([0, 1]), threshold) == 1
    assert dtype(threshold) == threshold


def test_a_similarity_at_the_threshold_is_accepted():
    assert metrics.accuracy(np.array([0.5, 0.4]), np.array([1, 0]), threshold=0.5) == 1
    assert metrics.accuracy(np.array([0.5, 0.4]), np.array([0, 1]), threshold=0.5) == 0


def test_eer_of_hand_worked_cases():
    assert metrics.roc(*PERFECT).eer() == 0
    assert metrics.roc(*INVERTED).eer() == 1
    assert metrics.roc(*IDENTICAL).eer() == pytest.approx(0.5)
    # From (FAR 0, FRR 1/3) to (1/2, 0): FAR = t / 2 meets FRR = (1 - t) / 3 at t = 0.4.
    assert metrics.roc(*TIED).eer() == pytest.approx(0.2)


@pytest.mark.parametrize("similarities, labels", SAMPLES)
def test_eer_lies_on_the_roc_curve_where_far_equals_frr(similarities, labels):
    far, tar, _ = sklearn_metrics.roc_curve(labels, similarities, drop_intermediate=False)
    fine = np.linspace(0, 1, len(far) * 200 + 1)
    position = np.arange(len(far)) / (len(far) - 1)
    along_far, along_frr = np.interp(fine, position, far), 1 - np.interp(fine, position, tar)
    crossing = along_far[np.argmin(np.abs(along_far - along_frr))]
    assert metrics.roc(similarities, labels).eer() == pytest.approx(crossing, abs=0.005)


@pytest.mark.parametrize("far", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("similarities, labels", SAMPLES)
def test_tar_at_far_is_the_largest_tar_that_the_limit_allows(similarities, labels, far):
    measured = metrics.roc(similarities, labels).tar_at_far(far)
    fars, tars, _ = sklearn_metrics.roc_curve(labels, similarities, drop_intermediate=False)
    assert measured.tar == tars[fars <= far].max()
    assert measured.impostors_accepted / measured.impostors == fars[tars == measured.tar].min()


@pytest.mark.parametrize("far", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("similarities, labels", SAMPLES)
def test_threshold_of_tar_at_far_gives_its_counts(similarities, labels, far):
    measured = metrics.roc(similarities, labels).tar_at_far(far)
    assert np.sum(similarities[labels == 1] >= measured.threshold) == measured.genuine_accepted
    assert np.sum(similarities[labels == 0] >= measured.threshold) == measured.impostors_accepted


def test_tar_at_far_of_a_hand_worked_case():
    similarities, labels = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 0, 1, 0, 1])
    measured = metrics.roc(similarities, labels).tar_at_far(0.5)
    assert dataclasses.astuple(measured) == (0.5, 2 / 3, pytest.approx(0.65), 2, 3, 1, 2)


def test_tar_at_far_is_0_if_too_many_impostors_tie_with_the_top():
    measured = metrics.roc(*IDENTICAL).tar_at_far(0.5)
    assert (measured.tar, measured.genuine_accepted, measured.impostors_accepted) == (0, 0, 0)
    assert measured.threshold > 0.5 and math.isfinite(measured.threshold)


@pytest.mark.parametrize("impostors", [10, 29, 49, 100, 1000])
def test_the_lowest_measurable_far_is_one_impostor_pair(impostors):
    similarities = np.r_[2.0, np.linspace(0, 1, impostors)]
    labels = np.r_[1, np.zeros(impostors, int)]
    assert metrics.roc(similarities, labels).tar_at_far(1 / impostors).tar == 1
    below = metrics.roc(similarities, labels).tar_at_far(0.999 / impostors)
    assert (below.tar, below.threshold, below.genuine_accepted, below.impostors_accepted) == (
        None,
        None,
        None,
        None,
    )
    assert (below.genuine, below.impostors) == (1, impostors)


def test_a_far_of_29_in_100_allows_29_impostor_pairs():
    similarities, labels = (
        np.r_[np.linspace(1, 2, 29), 0.5, np.linspace(0, 0.4, 71)],
        np.zeros(101, int),
    )
    labels[29] = 1
    assert metrics.roc(similarities, labels).tar_at_far(0.29).impostors_accepted == 29


def test_larger_far_never_lowers_tar():
    for similarities, labels in SAMPLES:
        curve = metrics.roc(similarities, labels)
        tars = [curve.tar_at_far(far).tar for far in (0.01, 0.02, 0.1, 0.3, 1)]
        assert tars == sorted(tars)
        assert tars[-1] == 1


def test_evaluate_gives_every_figure_in_plain_python_that_json_takes():
    similarities, labels = sample(0, 1)
    figures = metrics.evaluate(similarities.astype(np.float32), labels == 1, np.float32(0.5))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    names = [
        "accuracy",
        "accuracy_standard_error",
        "threshold",
        "auc",
        "eer",
        "tar_at_far",
        "pairs",
        "genuine",
        "impostor",
    ]
    assert list(figures) == names
    assert list(figures["tar_at_far"]) == ["0.1", "0.01", "0.001", "0.0001"]
    assert figures["tar_at_far"]["0.001"]["tar"] is None
    assert figures["pairs"] == figures["genuine"] + figures["impostor"] == 400
    assert figures["genuine"] == labels.sum()


def test_standard_error_of_accuracy_is_binomial():
    figures = metrics.evaluate(*TIED, threshold=0.3)
    assert figures["accuracy"] == 0.8
    assert figures["accuracy_standard_error"] == pytest.approx(math.sqrt(0.8 * 0.2 / 5))


def test_a_rising_transform_of_the_similarities_changes_no_rate():
    similarities, labels = SAMPLES[1]
    curve, risen = (metrics.roc(s, labels) for s in (similarities, np.exp(similarities / 10)))
    assert (curve.auc(), curve.eer()) == (risen.auc(), risen.eer())


def test_bool_int_and_float_labels_and_lists_mean_the_same():
    similarities, labels = TIED
    for same in (labels == 1, labels.astype(float), labels.astype(np.uint8), labels.tolist()):
        assert (
            metrics.roc(similarities.tolist(), same).auc()
            == metrics.roc(similarities, labels).auc()
        )


@pytest.mark.parametrize(
    "similarities, labels, message",
    [
        (
            [0.1, math.nan, 0.3],
            [0, 1, 1],
            "1 of 3 similarities are not finite, the first is nan of pair 1",
        ),
        ([0.1, 0.2, -math.inf], [0, 1, 1], "the first is -inf of pair 2"),
        ([0.1, 0.2], [1, 1], "no impostor pair among 2 pairs"),
        ([0.1, 0.2], [False, False], "no genuine pair among 2 pairs"),
        ([], [], "pair among 0 pairs"),
        ([0.1, 0.2], [1, 0, 1], r"similarities \[2\] and labels \[3\] do not fit"),
        ([[0.1], [0.2]], [[1], [0]], r"similarities \[2, 1\] and labels \[2, 1\] do not fit"),
        ([0.1, 0.2, 0.3], [1, 0, 2], "label of pair 2 is 2"),
        ([0.1, 0.2, 0.3], [1, -1, 0], "label of pair 1 is -1"),
    ],
)
def test_pairs_without_metrics_are_refused_by_their_fault(similarities, labels, message):
    with pytest.raises(UserError, match=message) as raised:
        metrics.roc(np.array(similarities), np.array(labels))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("threshold", [math.nan, math.inf])
def test_a_threshold_that_is_not_finite_is_refused(threshold):
    with pytest.raises(UserError, match="give a finite number"):
        metrics.evaluate(*TIED, threshold=threshold)


@pytest.mark.parametrize("far", [0, -0.1, 1.5, math.nan])
def test_a_far_that_is_no_rate_is_refused(far):
    with pytest.raises(UserError, match="is not a rate"):
        metrics.roc(*TIED).tar_at_far(far)
