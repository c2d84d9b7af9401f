import numpy as np
import pytest

from fv.training.updates import schedule
from fv.training.updates.optimizer_options import OptimizerOptions

BATCH = 64


def rates(options: OptimizerOptions, steps: int, batch: int = BATCH) -> list[float]:
    built = schedule.build_schedule(options, steps, batch)
    return [float(built(step)) for step in range(steps + 1)]


def test_the_rate_rises_then_falls_along_half_a_cosine_to_zero():
    found = rates(OptimizerOptions(learning_rate=0.4, warmup_steps=4), steps=12)
    np.testing.assert_allclose(found[:4], [0.1, 0.2, 0.3, 0.4], rtol=1e-5)
    np.testing.assert_allclose(found[8], 0.2, rtol=1e-5)
    assert found[12] == pytest.approx(0.0, abs=1e-6) and found[4:] == sorted(
        found[4:], reverse=True
    )


def test_a_constant_rate_stays_after_warm_up():
    found = rates(OptimizerOptions(learning_rate=0.4, warmup_steps=2, decay="constant"), steps=12)
    np.testing.assert_allclose(found, [0.2] + [0.4] * 12, rtol=1e-6)


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1.0), ("linear", 0.25), ("sqrt", 0.5)])
def test_the_rate_follows_the_batch_as_told(scaling, factor):
    options = OptimizerOptions(learning_rate=0.4, warmup_steps=0, scale_learning_rate=scaling)
    assert rates(options, steps=4, batch=64)[0] == pytest.approx(0.4 * factor)


def test_a_part_of_the_weights_has_its_own_multiple_from_its_own_first_step_on():
    whole = schedule.build_schedule(OptimizerOptions(learning_rate=0.4, warmup_steps=0), 12, BATCH)
    part = schedule.Part(whole, factor=0.1, start=5)
    assert float(part(2)) == pytest.approx(0.1 * float(whole(7)))
