import os
import signal
import time

import pytest
import tensorflow as tf

from fv.training.clusters.agreement import Agreement
from fv.training.saving.checkpoints import Checkpoints
from fv.training.saving.interruption import Interruption
from fv.training.saving.pulse import Beat, Pulse, StopAsked
from tests import waiting

AGREEMENT = Agreement(tf.distribute.OneDeviceStrategy("CPU:0"))


def pulse(
    tmp_path, seconds: float = 600.0, interruption: Interruption | None = None
) -> tuple[Pulse, Checkpoints]:
    checkpoints = Checkpoints(str(tmp_path), AGREEMENT, keep=3, chief=True)
    return Pulse(AGREEMENT, interruption or Interruption(), checkpoints, seconds), checkpoints


def test_host_calls_last_five_seconds_at_most_and_a_step_at_least(tmp_path):
    beating, _ = pulse(tmp_path)
    assert beating.beat(20, 2.0) == Beat(False, False, 50)
    assert beating.beat(3, 60.0) == Beat(False, False, 1)


def test_a_checkpoint_is_due_so_many_seconds_after_the_last(tmp_path):
    beating, checkpoints = pulse(tmp_path, seconds=0.5)
    assert not beating.beat(1, 1.0).save
    time.sleep(0.51)
    assert beating.beat(1, 1.0).save
    checkpoints.save(1)
    assert not beating.beat(1, 1.0).save


def test_a_signal_makes_it_leave_also_in_the_middle_of_a_validation(tmp_path):
    with Interruption() as interruption:
        beating, _ = pulse(tmp_path, interruption=interruption)
        for _ in range(20):
            beating.between_batches()
        os.kill(os.getpid(), signal.SIGTERM)
        waiting.until(lambda: interruption.requested)
        assert beating.beat(1, 1.0).leave
        with pytest.raises(StopAsked):
            for _ in range(20):
                beating.between_batches()


def test_one_process_agrees_with_itself():
    assert AGREEMENT.mean(1.0, 2) == [1.0, 2.0]
    assert AGREEMENT.any(True) and not AGREEMENT.any(False) and AGREEMENT.same(7)
