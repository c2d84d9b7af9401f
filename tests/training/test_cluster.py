import json

import pytest

from fv.errors import UserError
from fv.training import cluster
from fv.training import cluster as clusters
from fv.training.cluster import Cluster
from fv.training.options import StrategyOptions


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node1", ["node1"]),
        ("node1,node2", ["node1", "node2"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("n[001,003-004],m5", ["n001", "n003", "n004", "m5"]),
        ("rack[1-2]-gpu[0-1]", ["rack1-gpu0", "rack1-gpu1", "rack2-gpu0", "rack2-gpu1"]),
        ("n[10,2]", ["n10", "n2"]),
        ("fv-[0-1].fv.ns.svc:2222", ["fv-0.fv.ns.svc:2222", "fv-1.fv.ns.svc:2222"]),
        ("10.0.0.1:12345, 10.0.0.2:12345", ["10.0.0.1:12345", "10.0.0.2:12345"]),
        ("[0-1]a", ["0a", "1a"]),
        ("[fd00::1]:2222,[fd00::2]:2222", ["[fd00::1]:2222", "[fd00::2]:2222"]),
    ],
)
def test_a_list_of_hosts_is_expanded_in_its_order(text, names):
    assert cluster.expand_hosts(text, "LIST") == names


@pytest.mark.parametrize(
    "text",
    ["", "n[1-2", "n1-2]", "n[]", "n[a-b]", "n[3-1]", "n1,,n2", "n[1-2-3]", "n[[1]]", "n[1,]"],
)
def test_what_is_no_list_of_hosts_is_refused_in_one_line(text):
    with pytest.raises(UserError, match="LIST has '.*is no host such as"):
        cluster.expand_hosts(text, "LIST")


def test_a_range_that_would_fill_the_memory_is_refused():
    with pytest.raises(UserError, match="LIST"):
        cluster.expand_hosts("n[0-999999999999]", "LIST")
    with pytest.raises(UserError, match="more than 100,000 hosts"):
        cluster.expand_hosts("n[0-999]-[0-999]", "LIST")


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
    found = [clusters.read_slurm(task(rank), 5000) for rank in range(5)]
    assert {cluster.addresses for cluster in found} == {
        ("n08:5000", "n08:5001", "n09:5000", "n09:5001", "n10:5000")
    }
    places = [(cluster.index, cluster.local_index, cluster.local_count) for cluster in found]
    assert places == [(0, 0, 2), (1, 1, 2), (2, 0, 2), (3, 1, 2), (4, 0, 1)]


def test_without_a_port_each_job_has_its_own():
    one, other = (
        clusters.read_slurm(task(0, SLURM_JOB_ID=job), None).addresses[0]
        for job in ("4711", "4712")
    )
    assert (one, other) == ("n08:16711", "n08:16712")


def test_nodes_keep_slurms_order_though_names_sort_otherwise():
    environment = task(0, SLURM_STEP_NODELIST="n[2,10],a1", SLURM_STEP_TASKS_PER_NODE="2(x2),1")
    assert clusters.read_slurm(environment, 5000).addresses[::2] == (
        "n2:5000",
        "n10:5000",
        "a1:5000",
    )


def test_a_job_without_the_steps_own_variables_is_read_too():
    names = (
        "SLURM_STEP_NODELIST",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_STEP_TASKS_PER_NODE",
        "SLURM_NODEID",
        "SLURM_LOCALID",
    )
    environment = task(1, SLURM_JOB_NODELIST="n[1-2]", SLURM_NTASKS="2", **dict.fromkeys(names))
    assert clusters.read_slurm(environment, 5000).addresses == ("n1:5000", "n2:5000")


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
        clusters.read_slurm(task(0, **changed), 5000)


def test_a_port_too_high_for_all_tasks_of_a_node_is_refused():
    with pytest.raises(UserError, match="--workers=slurm:65535 leaves no ports for 2 tasks"):
        clusters.read_slurm(task(0), 65535)


def read(cluster: dict, role: str = "worker", index: int = 0) -> Cluster:
    return clusters.read_tf_config(
        {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": role, "index": index}})}
    )


def test_workers_keep_their_order_and_the_first_is_the_chief():
    assert read({"worker": ["a:1", "b:1"]}, index=1) == Cluster(("a:1", "b:1"), 1)


def test_a_chief_comes_before_the_workers():
    jobs = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    assert read(jobs, "chief") == Cluster(("a:1", "b:1", "c:1"), 0)
    assert read(jobs, "worker", 1) == Cluster(("a:1", "b:1", "c:1"), 2)
    assert read({"master": ["a:1"], "worker": ["b:1"]}, "worker", 0).index == 1


def test_what_an_operator_adds_is_left_alone():
    text = json.dumps(
        {
            "cluster": {"worker": ["a:1"]},
            "task": {"type": "worker", "index": "0"},
            "environment": "cloud",
        }
    )
    assert clusters.read_tf_config({"TF_CONFIG": text}) == Cluster(("a:1",), 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{cluster: 1}", "TF_CONFIG is not JSON"),
        ("[]", "needs .cluster"),
        ('{"cluster": {"worker": ["a:1"]}}', "needs .cluster"),
        ('{"cluster": {"worker": 3}, "task": {"type": "worker", "index": 0}}', "needs .cluster"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "x"}}',
            "needs .cluster",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "this is worker 1.*has 1 of these",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}',
            "this is worker -1",
        ),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["p:1"]}, '
            '"task": {"type": "worker", "index": 0}}',
            "the job 'ps'",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}',
            "the job 'evaluator'",
        ),
        (
            '{"cluster": {"chief": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}',
            "2 chiefs",
        ),
        (
            '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}',
            "'a' where HOST:PORT",
        ),
        (
            '{"cluster": {"worker": ["a:99999"]}, "task": {"type": "worker", "index": 0}}',
            "'a:99999' where HOST:PORT",
        ),
        (
            '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
            "a:1 twice",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text, message):
    with pytest.raises(UserError, match=message):
        clusters.read_tf_config({"TF_CONFIG": text})


TF_CONFIG = {
    "TF_CONFIG": json.dumps(
        {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    )
}


def find(environment: dict[str, str], **options) -> Cluster:
    return cluster.find_cluster(StrategyOptions(strategy="multi_worker", **options), environment)


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
def test_a_cluster_that_is_not_named_exactly_once_is_refused(environment, options, message):
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
