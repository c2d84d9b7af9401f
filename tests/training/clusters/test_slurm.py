import pytest

from fv.errors import UserError
from fv.training.clusters import slurm


def task(rank: int, **changed: str | None) -> dict[str, str]:
    """The environment of a task of a step with 2, 2 and 1 tasks on three nodes, as srun sets it."""
    node, local = ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0))[rank]
    environment = {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "n[08-11]",
        "SLURM_STEP_NODELIST": "n[08-10]",
        "SLURM_STEP_NUM_TASKS": "5",
        "SLURM_NTASKS": "5",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
        "SLURM_PROCID": str(rank),
        "SLURM_NODEID": str(node),
        "SLURM_LOCALID": str(local),
    }
    return {name: value for name, value in (environment | changed).items() if value is not None}


def test_every_task_finds_the_same_workers_and_its_own_place():
    found = [slurm.read(task(rank), 5000) for rank in range(5)]
    assert {cluster.addresses for cluster in found} == {
        ("n08:5000", "n08:5001", "n09:5000", "n09:5001", "n10:5000")
    }
    places = [(cluster.index, cluster.local_index, cluster.local_count) for cluster in found]
    assert places == [(0, 0, 2), (1, 1, 2), (2, 0, 2), (3, 1, 2), (4, 0, 1)]


def test_without_a_port_each_job_has_its_own():
    one, other = (
        slurm.read(task(0, SLURM_JOB_ID=job), None).addresses[0] for job in ("4711", "4712")
    )
    assert (one, other) == ("n08:16711", "n08:16712")


def test_nodes_keep_slurms_order_though_names_sort_otherwise():
    environment = task(0, SLURM_STEP_NODELIST="n[2,10],a1", SLURM_STEP_TASKS_PER_NODE="2(x2),1")
    assert slurm.read(environment, 5000).addresses[::2] == ("n2:5000", "n10:5000", "a1:5000")


def test_a_job_without_the_steps_own_variables_is_read_too():
    names = (
        "SLURM_STEP_NODELIST",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_STEP_TASKS_PER_NODE",
        "SLURM_NODEID",
        "SLURM_LOCALID",
    )
    environment = task(1, SLURM_JOB_NODELIST="n[1-2]", SLURM_NTASKS="2", **dict.fromkeys(names))
    assert slurm.read(environment, 5000).addresses == ("n1:5000", "n2:5000")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"SLURM_PROCID": None},
            "finds no SLURM_PROCID in the environment: start each worker with srun",
        ),
        ({"SLURM_STEP_NODELIST": None, "SLURM_JOB_NODELIST": None}, "finds no SLURM_STEP_NODELIST"),
        ({"SLURM_STEP_NODELIST": "n[8-"}, "SLURM_STEP_NODELIST has 'n\\[8-'"),
        ({"SLURM_PROCID": "one"}, "SLURM_PROCID is 'one'"),
        ({"SLURM_PROCID": "7"}, "SLURM_PROCID is 7, but the job step has 5 tasks"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2(3),1"}, "'2\\(3\\)' is no count"),
        (
            {"SLURM_STEP_TASKS_PER_NODE": "2(x3)"},
            "3 nodes and 5 tasks, but tasks per node of '2\\(x3\\)'",
        ),
        ({"SLURM_STEP_TASKS_PER_NODE": None}, "5 tasks do not divide over 3 nodes"),
        (
            {"SLURM_NODEID": "1"},
            "SLURM_NODEID is 1, and 0 in blocks: use srun --distribution=block",
        ),
        ({"SLURM_LOCALID": "1"}, "SLURM_LOCALID is 1, and 0 in blocks"),
    ],
)
def test_what_does_not_fit_together_is_said_in_one_line(changed, message):
    with pytest.raises(UserError, match=message):
        slurm.read(task(0, **changed), 5000)


def test_a_port_too_high_for_all_tasks_of_a_node_is_refused():
    with pytest.raises(UserError, match="--workers=slurm:65535 leaves no ports for 2 tasks"):
        slurm.read(task(0), 65535)
