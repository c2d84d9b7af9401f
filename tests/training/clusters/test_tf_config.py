import json

import pytest

from fv.errors import UserError
from fv.training.clusters import tf_config
from fv.training.clusters.cluster import Cluster


def read(cluster: dict, role: str = "worker", index: int = 0) -> Cluster:
    return tf_config.read(
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
    assert tf_config.read({"TF_CONFIG": text}) == Cluster(("a:1",), 0)


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
            '{"cluster": {"worker": ["a:1"], "ps": ["p:1"]}, "task": {"type": "worker", "index": 0}}',
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
        tf_config.read({"TF_CONFIG": text})
