import dataclasses

import numpy as np
import pytest

from fv import calibration, metrics
from fv.conversion import pair_lists
from fv.errors import UserError
from fv.evaluation import protocols
from tests.evaluation.making import pair_set, scores


def decide(pairs, similarities):
    return protocols.cross_validate(similarities, pairs.labels, *protocols.split_folds(pairs))


def test_a_fold_s_own_pairs_do_not_change_its_threshold():
    pairs = pair_set()
    similarities = scores(pairs.labels)
    before = decide(pairs, similarities)
    for number, fold in enumerate(before.folds):
        own = pairs.folds == number
        changed = dataclasses.replace(pairs, labels=np.where(own, 1 - pairs.labels, pairs.labels))
        after = decide(changed, similarities + np.float32(0.3) * own)
        assert after.folds[number].threshold == fold.threshold
        assert after.folds[number].calibration == fold.calibration
        others = [at for at in range(len(before.folds)) if at != number]
        assert any(
            after.folds[at].calibration != before.folds[at].calibration for at in others
        )  # the change was a real one


def test_a_fold_is_decided_by_the_best_threshold_of_all_others():
    pairs = pair_set()
    similarities = scores(pairs.labels)
    decisions = decide(pairs, similarities)
    others = pairs.folds != 1
    assert (
        decisions.folds[1].threshold
        == metrics.roc(similarities[others], pairs.labels[others]).best_threshold()
    )
    assert decisions.folds[1].calibration == calibration.fit(
        similarities[others], pairs.labels[others]
    )
    assert decisions.folds[1].chosen_on == others.sum()
    np.testing.assert_array_equal(
        decisions.same[~others], similarities[~others] >= decisions.folds[1].threshold
    )


def test_a_pair_that_shares_a_person_with_a_fold_does_not_choose_for_it():
    pairs = pair_set(folds=2)
    second = pairs.second.copy()
    impostor = np.flatnonzero((pairs.folds == 1) & (pairs.labels == 0))[0]
    second[impostor] = pairs.first[0]  # a person of fold 0
    training, testing = protocols.split_folds(dataclasses.replace(pairs, second=second))
    assert impostor not in training[0] and impostor in testing[1]
    assert len(training[0]) == np.sum(pairs.folds == 1) - 1


def test_mean_and_standard_error_over_folds_are_those_of_their_accuracies():
    pairs = pair_set()
    decisions = decide(pairs, scores(pairs.labels))
    accuracies = [np.mean(decisions.correct[pairs.folds == number]) for number in range(3)]
    assert decisions.accuracy == pytest.approx(np.mean(accuracies))
    assert decisions.standard_error == pytest.approx(np.std(accuracies, ddof=1) / np.sqrt(3))


def test_held_out_pairs_are_decided_by_the_others_alone():
    pairs = pair_set()
    similarities, others = scores(pairs.labels), scores(pairs.labels, seed=1)
    decisions = protocols.hold_out(similarities, pairs.labels, others, pairs.labels)
    assert decisions.threshold == metrics.roc(others, pairs.labels).best_threshold()
    changed = protocols.hold_out(1 - similarities, 1 - pairs.labels, others, pairs.labels)
    assert (
        changed.threshold == decisions.threshold
        and changed.folds[0].calibration == decisions.folds[0].calibration
    )
    rate = decisions.accuracy
    assert decisions.standard_error == pytest.approx(np.sqrt(rate * (1 - rate) / len(pairs)))


def test_made_folds_keep_people_together_and_repeat_by_the_seed():
    pairs = pair_set(folds=1)
    dealt = protocols.make_folds(pairs, 4, seed=3)
    first = dealt.people()[:, 0]
    assert all(len(set(dealt.folds[first == person])) == 1 for person in set(first))
    assert set(dealt.folds) == {0, 1, 2, 3}
    np.testing.assert_array_equal(dealt.folds, protocols.make_folds(pairs, 4, seed=3).folds)


def test_a_fold_whose_others_lack_a_class_is_refused_by_number():
    pairs = pair_set(folds=2)
    labels = np.where(pairs.folds == 1, 1, pairs.labels)
    said = (
        "fold 1 of 2 has no impostor pair to choose its threshold on: 0 of the 120 pairs in other"
    )
    with pytest.raises(UserError, match=said):
        decide(dataclasses.replace(pairs, labels=labels), scores(pairs.labels))


def test_constant_scores_are_decided_and_not_an_error():
    pairs = pair_set()
    decisions = decide(pairs, np.full(len(pairs), 0.5, np.float32))
    assert decisions.accuracy == pytest.approx(0.5)
    assert np.isfinite(decisions.probabilities).all() and decisions.probabilities[
        0
    ] == pytest.approx(0.5, abs=0.01)


def test_more_folds_than_people_are_refused_and_the_number_named_works():
    pairs = pair_set(folds=1)
    with pytest.raises(
        UserError,
        match="--folds=40 leaves a fold without a pair: the 240 pairs of 12 people in made",
    ) as said:
        protocols.make_folds(pairs, 40, seed=3)
    most = int(str(said.value).rpartition("--folds=")[2])
    assert set(protocols.make_folds(pairs, most, seed=3).folds) == set(range(most))


def test_more_folds_than_pairs_are_refused_and_the_number_named_works():
    with pytest.raises(
        UserError,
        match="--folds=10 leaves a fold without a pair: there are 6 pairs; give --folds=6 at most",
    ):
        protocols.deal_pairs(6, 10, seed=0)
    training, testing = protocols.deal_pairs(6, 6, seed=0)
    assert sorted(np.concatenate(testing)) == list(range(6)) and {
        len(each) for each in training
    } == {5}


def test_a_fold_that_lost_all_its_pairs_is_refused():
    pairs = pair_set()
    with pytest.raises(UserError, match="fold 2 of made has no pair left: mend the images"):
        protocols.split_folds(pairs.select(pairs.folds != 1, "lost"))


def test_pairs_that_are_scored_and_choose_are_counted_in_either_order():
    pairs = pair_set()
    some = pairs.select(np.arange(len(pairs)) < 30, "")
    turned = dataclasses.replace(some, first=some.second, second=some.first)
    shared = np.isin(pairs.keys(), turned.keys()).sum()
    assert (
        protocols.note_shared(pairs.keys(), turned.keys()).startswith(
            f"{shared} of the 240 scored pairs"
        )
        and shared >= 30
    )
    assert protocols.note_shared(pairs.keys()[:1], pairs.keys()[1:2]) == ""


def insightface_reference(embeddings, same, folds=10):
    """Accuracy and standard deviation as verification.py describes them, pair by pair."""
    first, second = embeddings[0::2], embeddings[1::2]
    distances = np.square(first - second).sum(axis=1)
    accuracies = []
    for test in np.array_split(np.arange(len(same)), folds):
        train = np.setdiff1d(np.arange(len(same)), test)
        best, chosen = -1.0, 0.0
        for threshold in np.arange(0, 4, 0.01):
            rate = np.mean((distances[train] < threshold) == same[train])
            if rate > best:
                best, chosen = rate, threshold
        accuracies.append(np.mean((distances[test] < chosen) == same[test]))
    return np.mean(accuracies), np.std(accuracies)


def embed_pairs(pairs, seed):
    """Unit embeddings of 2n images, and n labels; the two of a genuine pair are near."""
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < 0.5
    first, noise = rng.normal(size=(2, pairs, 8))
    second = np.where(same[:, None], first + 0.9 * noise, noise)
    embeddings = np.stack([first, second], axis=1).reshape(-1, 8)
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), same


@pytest.mark.parametrize(("pairs", "folds"), [(600, 10), (307, 10), (60, 7)])
def test_insightface_s_figures_are_those_of_its_description(pairs, folds):
    for seed in range(3):
        embeddings, same = embed_pairs(pairs, seed)
        distances = np.square(embeddings[0::2] - embeddings[1::2]).sum(axis=1)
        numbers = pair_lists.consecutive_folds(pairs, folds)
        found = protocols.insightface_accuracy(distances, same.astype(int), numbers)
        expected = insightface_reference(embeddings, same, folds)
        assert (found["accuracy"], found["standard_deviation"]) == pytest.approx(expected)


def test_insightface_s_grid_of_thresholds_changes_few_decisions():
    embeddings, same = embed_pairs(3000, 0)
    first, second = embeddings[0::2], embeddings[1::2]
    labels = same.astype(int)
    numbers = pair_lists.consecutive_folds(len(same))
    folds = [np.flatnonzero(numbers == fold) for fold in range(10)]
    others = [np.flatnonzero(numbers != fold) for fold in range(10)]
    exact = protocols.cross_validate((1 + (first * second).sum(axis=1)) / 2, labels, others, folds)
    of_grid, deviation = insightface_reference(embeddings, same)
    assert abs(exact.accuracy - of_grid) < 0.003
    assert exact.standard_error * 3 == pytest.approx(deviation, abs=0.003)  # sqrt(10 - 1)
