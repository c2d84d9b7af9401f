import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from fv import metrics
from fv.evaluation import figures, protocols
from tests.evaluation.making import pair_set, record_progress, scores

FARS = (0.1, 0.01)


def sample(pairs: int = 240):
    made = pair_set(folds=1, pairs=pairs)
    similarities = np.round(scores(made.labels), 2)  # with ties
    return similarities, made.labels, (similarities >= 0.5) == made.labels, made.people()


def weights(labels: np.ndarray, people: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    return np.where(labels == 1, drawn[people[:, 0]], drawn[people[:, 0]] * drawn[people[:, 1]])


def test_a_sample_has_the_figures_of_the_pairs_weighted_by_their_people():
    similarities, labels, correct, people = sample()
    drawn = np.random.default_rng(0).multinomial(
        people.max() + 1, np.full(people.max() + 1, 1 / (people.max() + 1))
    )
    accuracy, curve = figures._SortedPairs(similarities, labels, correct, people).weigh(
        drawn.astype(np.int32)
    )
    counts = weights(labels, people, drawn)
    assert accuracy == pytest.approx(np.average(correct, weights=counts))
    assert curve.auc() == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, similarities, sample_weight=counts)
    )
    repeated = np.repeat(similarities, counts), np.repeat(labels, counts)
    assert curve.eer() == pytest.approx(metrics.roc(*repeated).eer())
    assert curve.tar_at_far(0.1).tar == metrics.roc(*repeated).tar_at_far(0.1).tar


def test_intervals_hold_the_figures_and_repeat_by_the_seed():
    similarities, labels, correct, people = sample()
    found = figures.bootstrap_intervals(
        similarities, labels, correct, people, FARS, samples=200, seed=1
    )
    assert found["accuracy"][0] < correct.mean() < found["accuracy"][1]
    assert found["auc"][0] < metrics.roc(similarities, labels).auc() < found["auc"][1]
    assert found == figures.bootstrap_intervals(
        similarities, labels, correct, people, FARS, samples=200, seed=1
    )
    assert found != figures.bootstrap_intervals(
        similarities, labels, correct, people, FARS, samples=200, seed=2
    )


def test_the_progress_counts_the_samples_of_every_scorer(monkeypatch):
    similarities, labels, _, people = sample()
    decisions = protocols.hold_out(similarities, labels, similarities, labels)
    shown = record_progress(monkeypatch)
    found = figures.measure(decisions, {"other": decisions}, people, samples=20, seed=0)
    assert found["intervals"] == found["baselines"]["other"]["intervals"]
    assert [(line.n, line.total) for line in shown] == [(40, 40)]
    assert "intervals" not in figures.measure(decisions, {}, None, samples=20, seed=0)


def test_people_who_differ_widen_the_interval():
    _, labels, _, people = sample(pairs=2400)
    correct = people[:, 0] < 6  # half of the people are always correct, the others never
    found = figures.bootstrap_intervals(
        correct * labels.astype(float), labels, correct, people, FARS, samples=300, seed=0
    )
    width, binomial = np.subtract(*found["accuracy"][::-1]), 2 * 1.96 * 0.5 / np.sqrt(2400)
    assert width > 5 * binomial


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng, covered, people = np.random.default_rng(0), 0, 30
    for _ in range(60):
        ease = rng.beta(
            8, 2, people
        )  # chance that a person's pair is decided correctly; 0.8 on average
        person, impostor = np.repeat(np.arange(people), 6), np.arange(people)
        correct = np.concatenate([rng.random(len(person)) < ease[person], rng.random(people) < 0.8])
        labels = np.repeat([1, 0], [len(person), people])
        ends = np.concatenate(
            [np.stack([person, person], 1), np.stack([impostor, (impostor + 1) % people], 1)]
        )
        found = figures.bootstrap_intervals(
            correct.astype(float), labels, correct, ends, (0.5,), samples=80, seed=0
        )["accuracy"]
        covered += found[0] <= 0.8 <= found[1]
    assert 50 <= covered <= 60


def test_a_far_that_cannot_be_measured_has_no_interval():
    assert figures.bootstrap_intervals(*sample(), (0.0001,), samples=20, seed=0)["tar_at_far"] == {
        "0.0001": None
    }


def test_many_points_are_thinned_without_a_change_that_shows():
    rng = np.random.default_rng(0)
    labels, people = np.arange(40_000) % 2, rng.integers(100, size=(40_000, 2))
    similarities = rng.normal(labels, 1.0)
    sorted_pairs = figures._SortedPairs(similarities, labels, labels == 1, people)
    _, curve = sorted_pairs.weigh(np.ones(sorted_pairs.people, np.int32))
    assert len(curve.thresholds) < 10_000
    assert curve.auc() == pytest.approx(metrics.roc(similarities, labels).auc(), abs=1e-5)
    assert curve.eer() == pytest.approx(metrics.roc(similarities, labels).eer(), abs=2e-4)
    for far in (0.1, 0.01, 0.001, 0.0001):
        assert curve.tar_at_far(far).tar == pytest.approx(
            metrics.roc(similarities, labels).tar_at_far(far).tar, abs=1e-3
        )
