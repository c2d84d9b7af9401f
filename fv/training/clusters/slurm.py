"""A cluster from what Slurm tells each task of a job step (https://slurm.schedmd.com/srun.html, "output environment").

TensorFlow's SlurmClusterResolver sorts the nodes by name, so that n10 comes before n2 and ranks move; it takes one range a
name, runs nvidia-smi where there may be none, and sets CUDA_VISIBLE_DEVICES over what Slurm has set. None of it is used.
"""

import re
from collections.abc import Mapping

from fv.errors import UserError
from fv.training.clusters import hostlist
from fv.training.clusters.cluster import Cluster

_FIRST_PORT, _PORTS = 12000, 16000  # under Linux's ephemeral ports, which begin at 32768
_HIGHEST_PORT = 65535
_NODES = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
_TASKS = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS")
_TASKS_PER_NODE = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")


def read(environment: Mapping[str, str], port: int | None) -> Cluster:
    """Reads the step's nodes and tasks; one task is one worker, and tasks lie in blocks, node after node.

    Args:
      environment: of this process.
      port: of the first task of a node, the next tasks take the next ports. None makes one from the job's number, so that
        two jobs on one node are unlikely to meet.

    Raises:
      UserError: this is no task of Slurm's, or what it says does not fit together.
    """
    rank = _number(environment, ("SLURM_PROCID",))
    nodes = hostlist.expand(_text(environment, _NODES), _NODES[0])
    counts = _tasks_of_nodes(environment, len(nodes))
    port = _own_port(environment) if port is None else port
    if port + max(counts) - 1 > _HIGHEST_PORT:
        highest = _HIGHEST_PORT - max(counts) + 1
        raise UserError(
            f"--workers=slurm:{port} leaves no ports for {max(counts)} tasks of one node: "
            f"give --workers=slurm:{highest} or lower"
        )
    places = [(node, task) for node, count in enumerate(counts) for task in range(count)]
    if rank >= len(places):
        raise UserError(f"SLURM_PROCID is {rank}, but the job step has {len(places)} tasks")
    _check_blocks(environment, *places[rank])
    addresses = tuple(f"{nodes[node]}:{port + task}" for node, task in places)
    return Cluster(addresses, rank, places[rank][1], counts[places[rank][0]]).check("Slurm")


def expand_counts(text: str) -> list[int]:
    """Tasks of each node from Slurm's short form: '2(x3),1' → [2, 2, 2, 1].

    Raises:
      UserError: it is not of that form.
    """
    counts = []
    for item in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", item)
        if not found:
            raise UserError(
                f"{_TASKS_PER_NODE[0]} is '{text}', where '{item}' is no count such as 2 or 2(x3)"
            )
        counts += [int(found[1])] * int(found[2] or 1)
    return counts


def _tasks_of_nodes(environment: Mapping[str, str], nodes: int) -> list[int]:
    tasks = _number(environment, _TASKS)
    given = next((environment[name] for name in _TASKS_PER_NODE if environment.get(name)), None)
    if given is None and tasks % nodes:
        raise UserError(
            f"{tasks} tasks do not divide over {nodes} nodes, and {_TASKS_PER_NODE[0]} is not set"
        )
    counts = expand_counts(given) if given is not None else [tasks // nodes] * nodes
    if len(counts) != nodes or sum(counts) != tasks:
        raise UserError(
            f"Slurm names {nodes} nodes and {tasks} tasks, but tasks per node of '{given}': start it with srun"
        )
    return counts


def _check_blocks(environment: Mapping[str, str], node: int, task: int) -> None:
    """Checks with what Slurm says of this task that ranks go node by node."""
    for name, expected in (("SLURM_NODEID", node), ("SLURM_LOCALID", task)):
        if environment.get(name, str(expected)) != str(expected):
            raise UserError(
                f"{name} is {environment[name]}, and {expected} in blocks: use srun --distribution=block"
            )


def _own_port(environment: Mapping[str, str]) -> int:
    return _FIRST_PORT + _number(environment, ("SLURM_JOB_ID", "SLURM_JOBID")) % _PORTS


def _text(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    for name in names:
        if environment.get(name):
            return environment[name]
    raise UserError(
        f"--workers=slurm finds no {names[0]} in the environment: start each worker with srun, in a Slurm job"
    )


def _number(environment: Mapping[str, str], names: tuple[str, ...]) -> int:
    text = _text(environment, names)
    if not text.isdecimal():
        raise UserError(f"{names[0]} is '{text}', which is no number")
    return int(text)
