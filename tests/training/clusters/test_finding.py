import json

import pytest

from fv.errors import UserError
from fv.training.clusters import finding
from fv.training.clusters.cluster import Cluster
from fv.training.strategy_options import StrategyOptions
from tests.training.clusters.test_slurm import task

TF_CONFIG = {
    "TF_CONFIG": json.dumps(
        {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    )
}


def find(environment: dict[str, str], **options) -> Cluster:
    return finding.find(StrategyOptions(strategy="multi_worker", **options), environment)


def test_the_same_cluster_comes_from_every_source():
    expected = ("a:1", "b:1")
    assert find(TF_CONFIG).addresses == expected
    assert find({}, workers="a:1,b:1", worker_index=1) == find(TF_CONFIG)
    slurm = task(1, SLURM_STEP_NODELIST="a,b,c", SLURM_STEP_NUM_TASKS="5")
    assert find(slurm, workers="slurm:5000").addresses[:2] == ("a:5000", "a:5001")
    assert find(slurm, workers="slurm").addresses[0] == "a:16711"


def test_workers_may_be_written_as_a_range():
    assert find({}, workers="fv-[0-2].fv:2222", worker_index=2).addresses[2] == "fv-2.fv:2222"


@pytest.mark.parametrize(
    ("environment", "options", "message"),
    [
        ({}, {}, "does not know the workers: give --workers"),
        ({}, {"workers": "a:1,b:1"}, "--workers needs --worker_index"),
        ({}, {"worker_index": 1}, "--worker_index=1 needs --workers"),
        (
            {},
            {"workers": "a:1,b:1", "worker_index": 2},
            "names 2 workers.*this one is said to be 2",
        ),
        ({}, {"workers": "a:1,b", "worker_index": 0}, "--workers has 'b' where HOST:PORT"),
        ({}, {"workers": "a:1,a:1", "worker_index": 0}, "--workers names a:1 twice"),
        (
            TF_CONFIG,
            {"workers": "a:1", "worker_index": 0},
            "--workers and TF_CONFIG both name the workers",
        ),
        ({}, {"workers": "slurm"}, "--workers=slurm finds no SLURM_PROCID"),
        ({}, {"workers": "slurm:x"}, "--workers=slurm:x names no port: give --workers=slurm:12345"),
        ({}, {"workers": "slurm", "worker_index": 0}, "--workers has 'slurm' where HOST:PORT"),
    ],
)
def test_a_cluster_that_nothing_names_or_two_things_do_is_refused_in_one_line(
    environment, options, message
):
    with pytest.raises(UserError, match=message):
        find(environment, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": "a:1,b:1"}, "--workers is for --strategy=multi_worker, not mirrored"),
        ({"workers": "slurm"}, "--workers is for --strategy=multi_worker"),
        ({"worker_index": 0}, "--worker_index is for"),
        (
            {"strategy": "one_device", "num_gpus": 2},
            "--num_gpus=2 is for .*, not one_device",
        ),
        (
            {"strategy": "multi_worker", "virtual_devices": 2},
            "--virtual_devices=2 is for --strategy=mirrored",
        ),
    ],
)
def test_flags_of_another_strategy_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        StrategyOptions(**({"strategy": "mirrored"} | options)).check()
