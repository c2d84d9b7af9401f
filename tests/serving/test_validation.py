import numpy as np
import pytest

from fv import metrics
from fv.errors import UserError
from fv.serving import validation

SIMILARITIES = np.linspace(0, 1, 20, dtype=np.float32)
LABELS = np.array([0] * 8 + [1, 0, 1, 0] + [1] * 8)


def choose(**options):
    return validation.choose_threshold(
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
