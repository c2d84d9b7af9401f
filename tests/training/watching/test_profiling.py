import pathlib

import numpy as np
import pytest
import tensorflow as tf

from fv.errors import UserError
from fv.training.watching.profiling import Profiler
from fv.training.watching.report_options import ReportOptions


def test_chosen_steps_run_by_themselves_and_leave_a_profile(tmp_path):
    calls = []

    def run_steps(first: int, count: int) -> np.ndarray:
        calls.append((first, count))
        return tf.cast(tf.range(first, first + count), tf.float32).numpy()

    profiler = Profiler(run_steps, 12, 21, str(tmp_path))
    losses = [profiler(first, 10) for first in (0, 10, 20)]
    assert calls == [(0, 10), (10, 1), (11, 9), (20, 1), (21, 9)]
    assert np.array_equal(np.concatenate(losses), np.arange(30))
    profiles = list(pathlib.Path(tmp_path).rglob("*.xplane.pb"))
    assert len(profiles) == 1 and profiles[0].stat().st_size > 0


def test_a_run_that_goes_on_behind_the_chosen_steps_is_not_profiled(tmp_path):
    Profiler(lambda first, count: np.zeros(count), 2, 4, str(tmp_path))(4, 6)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["0,3", "5,4", "5,31", "5", "a,b", "1,2,3"])
def test_steps_that_the_run_has_not_are_refused_in_one_line(given):
    with pytest.raises(
        UserError, match=f"--profile_steps={given} names no steps from 1 to --steps=30: give"
    ):
        ReportOptions(profile_steps=given).profiled(30)
    assert (
        ReportOptions(profile_steps="5,6").profiled(30) == (5, 6)
        and ReportOptions().profiled(30) is None
    )
