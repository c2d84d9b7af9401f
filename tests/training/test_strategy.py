import pytest
import tensorflow as tf

from fv.errors import UserError
from fv.training import strategy
from fv.training.options import StrategyOptions


def test_one_device_is_one_replica():
    made = strategy.start(StrategyOptions(), seed=0)
    assert made.num_replicas_in_sync == 1 and strategy.is_chief(made)


def test_a_batch_that_the_replicas_cannot_share_evenly_is_refused():
    two = strategy.mirrored_cpus(2)
    strategy.check_divides(two, 6)
    with pytest.raises(UserError, match="global_batch_size=7 does not divide over 2 replicas"):
        strategy.check_divides(two, 7)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this machine has GPUs")
def test_mirrored_without_a_gpu_says_what_to_use_instead():
    with pytest.raises(UserError, match="finds no GPU.*virtual_devices"):
        strategy.start(StrategyOptions(strategy="mirrored"), seed=0)


def test_multi_worker_without_a_cluster_is_refused(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="needs TF_CONFIG"):
        strategy.start(StrategyOptions(strategy="multi_worker"), seed=0)
