import json

import pytest
import tensorflow as tf

from fv.training.clusters.agreement import Agreement
from fv.training.saving.best import Best


@pytest.fixture
def best(tmp_path):
    """Makes the bookkeeping of a run that starts, or starts again, in one workdir."""

    def make() -> Best:
        agreement = Agreement(tf.distribute.OneDeviceStrategy("CPU:0"))
        return Best(str(tmp_path / "run"), agreement, chief=True)

    return make


def offered(best: Best, values: dict[int, float]) -> list[int]:
    """The steps at which the weights were saved."""
    steps = []
    for step, value in values.items():
        best.offer(step, value, steps.append)
    return steps


def test_only_better_weights_are_saved(best):
    assert offered(best(), {5: 0.6, 10: 0.8, 15: 0.7, 20: 0.8, 25: 0.9}) == [5, 10, 25]


def test_a_run_started_again_knows_what_was_best(best, tmp_path):
    offered(best(), {5: 0.6, 10: 0.8})
    assert offered(best(), {15: 0.7}) == [] and offered(best(), {20: 0.81}) == [20]
    known = json.loads((tmp_path / "run" / "best" / "validation.json").read_text())
    assert known == {"step": 20, "metric": "auc", "best": 0.81, "best_step": 20}


def test_what_another_metric_of_an_earlier_version_found_best_is_replaced(best, tmp_path):
    (tmp_path / "run" / "best").mkdir(parents=True)
    known = {"step": 5, "metric": "accuracy", "best": 0.9, "best_step": 5}
    (tmp_path / "run" / "best" / "validation.json").write_text(json.dumps(known))
    assert offered(best(), {10: 0.7, 15: 0.6}) == [10]


def test_steps_that_were_not_validated_are_known(best):
    assert not best().validated(5)
    offered(best(), {5: 0.6})
    assert best().validated(5) and not best().validated(10)


def test_weights_that_could_not_be_saved_are_offered_again(best):
    def fail(step: int) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        best().offer(5, 0.6, fail)
    assert not best().validated(5) and offered(best(), {5: 0.6}) == [5]
