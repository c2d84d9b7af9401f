import numpy as np
import pytest
import tensorflow as tf

from benchmarks.side_by_side import ports
from fv.errors import UserError
from fv.training import strategy
from fv.training.options import OptimizerOptions, StrategyOptions
from tests.training import stepping

FOUR = ["gpu0", "gpu1", "gpu2", "gpu3"]


def test_a_process_alone_has_all_gpus():
    assert strategy.share_gpus(FOUR, 0, 1, {}) == FOUR


def test_tasks_that_see_all_gpus_of_the_node_take_equal_parts():
    environment = {"SLURM_STEP_GPUS": "0,1,2,3"}
    assert [strategy.share_gpus(FOUR, task, 2, environment) for task in range(2)] == [
        FOUR[:2],
        FOUR[2:],
    ]


def test_tasks_that_slurm_has_bound_to_gpus_keep_them():
    assert strategy.share_gpus(FOUR[:2], 1, 2, {"SLURM_STEP_GPUS": "0,1,2,3"}) == FOUR[:2]


def test_tasks_without_gpus_have_none():
    assert strategy.share_gpus([], 1, 2, {}) == []


def test_gpus_that_the_tasks_cannot_share_evenly_are_refused():
    with pytest.raises(UserError, match="4 GPUs do not divide over 3 tasks of one node"):
        strategy.share_gpus(FOUR, 0, 3, {"SLURM_STEP_GPUS": "0,1,2,3"})


STEPS = 5
FLOAT32_NOISE = 1e-5  # relative; measured: 2.4e-7, and over 1e-3 without synchronised statistics
# Adam's first steps are the signs of the gradients, and so make much of noise about zero.
SGD = OptimizerOptions(optimizer="sgd", learning_rate=0.03, warmup_steps=0)


def test_one_device_is_one_replica():
    made = strategy.start_strategy(StrategyOptions(), seed=0)
    assert made.num_replicas_in_sync == 1 and strategy.is_chief(made)


def test_one_worker_alone_needs_no_network_and_is_the_chief():
    options = StrategyOptions(
        strategy="multi_worker", workers="no-such-host.invalid:12345", worker_index=0
    )
    made = strategy.start_strategy(options, seed=0)
    assert made.num_replicas_in_sync == 1 and strategy.is_chief(made)
    assert isinstance(made, tf.distribute.MultiWorkerMirroredStrategy)


def losses_over(devices: int, shards, **arguments) -> np.ndarray:
    """The first losses of one seed over so many virtual CPU devices."""
    made = strategy.mirrored_cpus(1)
    if devices > 1:
        made = strategy.start_strategy(
            StrategyOptions(strategy="mirrored", virtual_devices=devices), seed=0
        )
    assert made.num_replicas_in_sync == devices
    return stepping.trainer(shards, made, SGD, steps=STEPS, **arguments).run(STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", ["sync", "frozen"])
def test_two_and_four_devices_give_the_losses_of_one(shards, batch_norm):
    one, *more = (losses_over(devices, shards, **{batch_norm: True}) for devices in (1, 2, 4))
    assert len(set(one)) == STEPS
    for losses in more:
        np.testing.assert_allclose(losses, one, rtol=FLOAT32_NOISE)


def test_a_batch_that_does_not_divide_evenly_is_refused():
    two = strategy.mirrored_cpus(2)
    strategy.check_divides(two, 6)
    with pytest.raises(UserError, match="global_batch_size=7 does not divide over 2 replicas"):
        strategy.check_divides(two, 7)
    strategy.check_divides(two, 12, parts=3)
    with pytest.raises(
        UserError,
        match=r"=12 does not divide over 2 replicas in 4 parts \(--accumulate_steps\): "
        "use a multiple",
    ):
        strategy.check_divides(two, 12, parts=4)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this machine has GPUs")
def test_mirrored_without_a_gpu_says_what_to_use_instead():
    with pytest.raises(UserError, match="finds no GPU.*virtual_devices"):
        strategy.start_strategy(StrategyOptions(strategy="mirrored"), seed=0)


@pytest.mark.parametrize("name", ["mirrored", "multi_worker"])
def test_more_gpus_than_there_are_is_refused_with_both_numbers(name):
    cluster = {"workers": "localhost:12345", "worker_index": 0} if name == "multi_worker" else {}
    found = len(tf.config.list_physical_devices("GPU"))
    with pytest.raises(
        UserError, match=f"--num_gpus=99 asks for more GPUs than the {found} there are"
    ):
        strategy.start_strategy(StrategyOptions(strategy=name, num_gpus=99, **cluster), seed=0)


def test_multi_worker_without_a_cluster_says_how_to_name_one(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(
        UserError, match="does not know the workers: give --workers=HOST:PORT.*TF_CONFIG"
    ):
        strategy.start_strategy(StrategyOptions(strategy="multi_worker"), seed=0)


def test_a_cluster_that_does_not_form_names_who_is_missing_in_time():
    worker, chief = ports.free_ports(2)
    listed = f"localhost:{chief},localhost:{worker}"
    options = StrategyOptions(
        strategy="multi_worker", workers=listed, worker_index=1, startup_timeout=1.0
    )
    with pytest.raises(
        UserError,
        match=rf"within --startup_timeout=1 seconds, no answer from worker 0 \(localhost:{chief}\)",
    ):
        strategy.start_strategy(options, seed=0)


def test_a_tpu_that_is_not_there_is_said_in_one_line():
    with pytest.raises(UserError, match="--strategy=tpu finds no TPU at 'local'"):
        strategy.start_strategy(StrategyOptions(strategy="tpu"), seed=0)
