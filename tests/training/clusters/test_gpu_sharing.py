import pytest

from fv.errors import UserError
from fv.training.clusters import gpu_sharing

FOUR = ["gpu0", "gpu1", "gpu2", "gpu3"]


def test_a_process_alone_has_all_gpus():
    assert gpu_sharing.share(FOUR, 0, 1, {}) == FOUR


def test_tasks_that_see_all_gpus_of_the_node_take_equal_parts():
    environment = {"SLURM_STEP_GPUS": "0,1,2,3"}
    assert [gpu_sharing.share(FOUR, task, 2, environment) for task in range(2)] == [
        FOUR[:2],
        FOUR[2:],
    ]


def test_tasks_that_slurm_has_bound_to_gpus_keep_them():
    assert gpu_sharing.share(FOUR[:2], 1, 2, {"SLURM_STEP_GPUS": "0,1,2,3"}) == FOUR[:2]


def test_tasks_without_gpus_have_none():
    assert gpu_sharing.share([], 1, 2, {}) == []


def test_gpus_that_the_tasks_cannot_share_evenly_are_refused():
    with pytest.raises(UserError, match="4 GPUs do not divide over 3 tasks of one node"):
        gpu_sharing.share(FOUR, 0, 3, {"SLURM_STEP_GPUS": "0,1,2,3"})
