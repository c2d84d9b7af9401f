"""The workers of a run, in the one form that every source of a cluster is turned into."""

import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping

from fv.errors import UserError
from fv.training.options import StrategyOptions

_PORTS = range(1, 65536)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """All workers of a run and this process's place among them.

    Attributes:
      addresses: HOST:PORT of each worker; worker 0 is the chief.
      index: of this process's worker.
      local_index: of this process among the workers of its machine.
      local_count: workers on this process's machine that share its GPUs.
    """

    addresses: tuple[str, ...]
    index: int
    local_index: int = 0
    local_count: int = 1

    @property
    def size(self) -> int:
        """Number of workers."""
        return len(self.addresses)

    def check(self, origin: str) -> "Cluster":
        """Checks that the addresses are different and whole, and that this worker is one of them.

        Args:
          origin: where the cluster comes from, for messages.

        Raises:
          UserError: they are not.
        """
        for address in self.addresses:
            port_of(address, origin)
        twice = sorted({address for address in self.addresses if self.addresses.count(address) > 1})
        if twice:
            raise UserError(
                f"{origin} names {twice[0]} twice: give each worker a host or a port of its own"
            )
        if not 0 <= self.index < self.size:
            raise UserError(
                f"{origin} names {self.size} workers, 0 to {self.size - 1}, and this one is said to be {self.index}"
            )
        return self

    def describe(self, workers: Iterable[int]) -> str:
        """Names workers by number and address, for messages."""
        return ", ".join(f"worker {worker} ({self.addresses[worker]})" for worker in workers)


def host_of(address: str) -> str:
    """The host of HOST:PORT; an IPv6 address comes without its brackets."""
    return address.rpartition(":")[0].strip("[]")


def port_of(address: str, origin: str) -> int:
    """The port of HOST:PORT.

    Raises:
      UserError: it has none.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or int(port) not in _PORTS:
        raise UserError(
            f"{origin} has '{address}' where HOST:PORT is expected, such as 10.0.0.1:12345"
        )
    return int(port)


# Lists of hosts as Slurm writes them: `node[01-03,07],rack[1-2]-gpu[0-1]` → every name, in order.

_MOST_NAMES = 100_000  # more is a slip of the pen
_PART = re.compile(r"\[([^][]*)\]|([^][]+)")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def expand_hosts(text: str, origin: str) -> list[str]:
    """Expands a list of hosts; each may have several ranges in brackets, and numbers keep their leading zeros.

    Args:
      text: names, separated by commas.
      origin: where the text comes from, for messages.

    Raises:
      UserError: it is no such list.
    """
    names = []
    for item in _split(text):
        parts = [_expand_part(part) for part in _PART.finditer(item)]
        if not item or "".join(part[0] for part in _PART.finditer(item)) != item or None in parts:
            raise UserError(
                f"{origin} has '{text}', where '{item}' is no host such as node1 or node[01-04,7]"
            )
        names.extend(
            itertools.islice(map("".join, itertools.product(*parts)), _MOST_NAMES + 1 - len(names))
        )
    if len(names) > _MOST_NAMES:
        raise UserError(f"{origin} has '{text}', which is more than {_MOST_NAMES:,} hosts")
    return names


def _split(text: str) -> Iterator[str]:
    """The items between those commas that are outside of brackets."""
    return (item.strip() for item in re.split(r",(?![^[]*\])", text))


def _expand_part(part: re.Match) -> list[str] | None:
    """The names of one part, or None where its brackets hold no ranges."""
    if part[1] is None:
        return [part[2]]
    if ":" in part[1]:
        return [part[0]]  # an IPv6 address
    names = []
    for item in part[1].split(","):
        found = _RANGE.fullmatch(item)
        first, last = (
            (int(number) for number in (found[1], found[2] or found[1])) if found else (1, 0)
        )
        if not first <= last < first + _MOST_NAMES:
            return None
        names.extend(str(number).zfill(len(found[1])) for number in range(first, last + 1))
    return names


# A cluster from what Slurm tells each task of a job step (https://slurm.schedmd.com/srun.html,
# "output environment").
#
# TensorFlow's SlurmClusterResolver sorts the nodes by name, so that n10 comes before n2 and ranks
# move; it takes one range a
# name, runs nvidia-smi where there may be none, and sets CUDA_VISIBLE_DEVICES over what Slurm has
# set. None of it is used.

_FIRST_PORT, _SLURM_PORTS = 12000, 16000  # under Linux's ephemeral ports, which begin at 32768
_HIGHEST_PORT = 65535
_NODES = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
_TASKS = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS")
_TASKS_PER_NODE = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")


def read_slurm(environment: Mapping[str, str], port: int | None) -> Cluster:
    """Reads the step's nodes and tasks; one task is one worker, and tasks lie in blocks, node after node.

    Args:
      environment: of this process.
      port: of the first task of a node, the next tasks take the next ports. None makes one from the job's number, so that
        two jobs on one node are unlikely to meet.

    Raises:
      UserError: this is no task of Slurm's, or what it says does not fit together.
    """
    rank = _number(environment, ("SLURM_PROCID",))
    nodes = expand_hosts(_text(environment, _NODES), _NODES[0])
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
    return _FIRST_PORT + _number(environment, ("SLURM_JOB_ID", "SLURM_JOBID")) % _SLURM_PORTS


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


# A cluster from TF_CONFIG, TensorFlow's variable: `{"cluster": {"worker": [...]}, "task":
# {"type": ..., "index": ...}}`.
#
# https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_varia
# ble

VARIABLE = "TF_CONFIG"
_CHIEFS = ("chief", "master")  # TensorFlow 1's name for a chief is the second
_ROLES = (*_CHIEFS, "worker")


def read_tf_config(environment: Mapping[str, str]) -> Cluster:
    """Reads TF_CONFIG; a chief is worker 0, and the workers come after it.

    Raises:
      UserError: it is not JSON, not whole, or this process is none of the workers.
    """
    jobs, role, index = _parse(environment[VARIABLE])
    unknown = sorted({role, *jobs} - {*_ROLES, "evaluator"})
    if unknown or role == "evaluator":
        job = unknown[0] if unknown else role
        raise UserError(
            f"{VARIABLE} has the job '{job}', but fv trains on a chief and workers only"
        )
    chiefs = [address for name in _CHIEFS for address in jobs.get(name, ())]
    if len(chiefs) > 1:
        raise UserError(f"{VARIABLE} has {len(chiefs)} chiefs: give one, and workers")
    place = index if role in _CHIEFS else index + len(chiefs)
    if index < 0 or index >= len(jobs.get(role, ())):
        raise UserError(
            f"{VARIABLE} says that this is {role} {index}, but its cluster has {len(jobs.get(role, ()))} of these"
        )
    return Cluster((*chiefs, *jobs.get("worker", ())), place).check(VARIABLE)


def _parse(text: str) -> tuple[dict[str, list[str]], str, int]:
    """(addresses by job, this process's job, its index in it)."""
    try:
        config = json.loads(text)
        jobs = {
            str(name): [str(address) for address in addresses]
            for name, addresses in config["cluster"].items()
        }
        return jobs, str(config["task"]["type"]), int(config["task"]["index"])
    except json.JSONDecodeError as error:
        raise UserError(
            f"{VARIABLE} is not JSON ({error}): quote it whole, with ' outside and \" inside"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f'{VARIABLE} needs "cluster": {{"worker": [...]}} and "task": {{"type": ..., "index": ...}}'
        ) from error


# Where a run's cluster comes from: the flags, Slurm or TF_CONFIG.

_SLURM = "slurm"


def find_cluster(options: StrategyOptions, environment: Mapping[str, str]) -> Cluster:
    """Finds the workers of this run.

    Raises:
      UserError: nothing names them, two things do, or what names them is wrong.
    """
    source, _, port = options.workers.partition(":")
    if source == _SLURM and options.worker_index is None:
        return read_slurm(environment, _finding_number(port) if port else None)
    if options.workers:
        return _listed(options, environment)
    if options.worker_index is not None:
        raise UserError(
            f"--worker_index={options.worker_index} needs --workers=HOST:PORT,… beside it"
        )
    if not environment.get(VARIABLE):
        ways = "--workers=HOST:PORT,… --worker_index=N, --workers=slurm, or TF_CONFIG in the environment"
        raise UserError(
            f"--strategy=multi_worker does not know the workers: give {ways} (docs/cluster.md)"
        )
    return read_tf_config(environment)


def _listed(options: StrategyOptions, environment: Mapping[str, str]) -> Cluster:
    if environment.get(VARIABLE):
        raise UserError(
            f"--workers and {VARIABLE} both name the workers: leave --workers out, or unset the variable"
        )
    if options.worker_index is None:
        raise UserError(
            "--workers needs --worker_index: the place of this machine in the list, from 0"
        )
    return Cluster(tuple(expand_hosts(options.workers, "--workers")), options.worker_index).check(
        "--workers"
    )


def _finding_number(port: str) -> int:
    if not port.isdecimal():
        raise UserError(f"--workers=slurm:{port} names no port: give --workers=slurm:12345")
    return int(port)
