"""The workers of a multi_worker run, from the flags, Slurm or TF_CONFIG."""

import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Mapping

from fv.errors import UserError
from fv.training.options import StrategyOptions

TF_CONFIG = "TF_CONFIG"
_CHIEFS = ("chief", "master")  # TensorFlow 1 called a chief master
_JOBS = (*_CHIEFS, "worker")

_SLURM = "slurm"
_NODES = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST")
_TASKS = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
_TASKS_PER_NODE = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")

_HIGHEST_PORT = 65535
_FIRST_SLURM_PORT, _SLURM_PORTS = 12000, 16000  # below Linux's ephemeral ports, from 32768 on

_MOST_HOSTS = 100_000  # more is a typing error
_BETWEEN_HOSTS = re.compile(r",(?![^[]*\])")  # a comma outside of brackets
_HOST = re.compile(r"(?:\[[^][]*\]|[^][])+")
_HOST_PARTS = re.compile(r"\[([^][]*)\]|([^][]+)")  # the content of brackets, or plain text
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """All workers of a run, and this process's place among them.

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
        """Checks that all addresses are complete and different, and that this worker has one.

        Args:
          origin: what names the cluster, for messages.

        Raises:
          UserError: they are not.
        """
        for address in self.addresses:
            split_address(address, origin)
        twice = sorted({address for address in self.addresses if self.addresses.count(address) > 1})
        if twice:
            raise UserError(
                f"{origin} names {twice[0]} twice: give each worker a host or a port of its own"
            )
        if not 0 <= self.index < self.size:
            raise UserError(
                f"{origin} names {self.size} workers, 0 to {self.size - 1}, "
                f"and this one is said to be {self.index}"
            )
        return self

    def describe(self, workers: Iterable[int]) -> str:
        """Names workers by number and address, for messages."""
        return ", ".join(f"worker {worker} ({self.addresses[worker]})" for worker in workers)


def find_cluster(options: StrategyOptions, environment: Mapping[str, str]) -> Cluster:
    """Finds the workers of this run.

    Raises:
      UserError: nothing names them, two things do, or what names them is wrong.
    """
    source, _, port = options.workers.partition(":")
    if source == _SLURM and options.worker_index is None:
        if port and not port.isdecimal():
            raise UserError(f"--workers=slurm:{port} names no port: give --workers=slurm:12345")
        return read_slurm(environment, int(port) if port else None)
    if options.workers:
        if environment.get(TF_CONFIG):
            raise UserError(
                f"--workers and {TF_CONFIG} both name the workers: "
                "leave --workers out, or unset the variable"
            )
        if options.worker_index is None:
            raise UserError(
                "--workers needs --worker_index: the place of this machine in the list, from 0"
            )
        addresses = tuple(expand_hosts(options.workers, "--workers"))
        return Cluster(addresses, options.worker_index).check("--workers")
    if options.worker_index is not None:
        raise UserError(
            f"--worker_index={options.worker_index} needs --workers=HOST:PORT,… beside it"
        )
    if not environment.get(TF_CONFIG):
        raise UserError(
            "--strategy=multi_worker does not know the workers: give --workers=HOST:PORT,… "
            "--worker_index=N, --workers=slurm, or TF_CONFIG in the environment (docs/cluster.md)"
        )
    return read_tf_config(environment)


def read_slurm(environment: Mapping[str, str], port: int | None) -> Cluster:
    """Reads the nodes and tasks of a job step (https://slurm.schedmd.com/srun.html).

    One task is one worker. Ranks go node by node. TensorFlow's SlurmClusterResolver is not used: it
    sorts the nodes by name, so that n10 comes before n2 and ranks move; it reads one range per
    name, runs nvidia-smi, and overrides the CUDA_VISIBLE_DEVICES that Slurm has set.

    Args:
      environment: of this process.
      port: of the first task of a node; the next tasks take the next ports. None derives one from
        the job's number, so that two jobs on one node are unlikely to collide.

    Raises:
      UserError: this is no task of Slurm's, or its variables do not fit together.
    """
    rank = _slurm_number(environment, ("SLURM_PROCID",))
    nodes = expand_hosts(_slurm_text(environment, _NODES), _NODES[0])
    counts = _count_tasks_of_nodes(environment, len(nodes))
    if port is None:
        port = _FIRST_SLURM_PORT + _slurm_number(environment, ("SLURM_JOB_ID",)) % _SLURM_PORTS
    highest = _HIGHEST_PORT - max(counts) + 1
    if port > highest:
        raise UserError(
            f"--workers=slurm:{port} leaves no ports for {max(counts)} tasks of one node: "
            f"give --workers=slurm:{highest} or lower"
        )
    places = [(node, task) for node, count in enumerate(counts) for task in range(count)]
    if rank >= len(places):
        raise UserError(f"SLURM_PROCID is {rank}, but the job step has {len(places)} tasks")
    node, task = places[rank]
    for name, expected in (("SLURM_NODEID", node), ("SLURM_LOCALID", task)):
        if environment.get(name, str(expected)) != str(expected):
            raise UserError(
                f"{name} is {environment[name]}, and {expected} in blocks: "
                "use srun --distribution=block"
            )
    addresses = tuple(f"{nodes[node]}:{port + task}" for node, task in places)
    return Cluster(addresses, rank, task, counts[node]).check("Slurm")


def _count_tasks_of_nodes(environment: Mapping[str, str], nodes: int) -> list[int]:
    """Tasks of each node; Slurm writes '2(x3),1' for [2, 2, 2, 1]."""
    tasks = _slurm_number(environment, _TASKS)
    given = next((environment[name] for name in _TASKS_PER_NODE if environment.get(name)), None)
    if given is None:
        if tasks % nodes:
            raise UserError(
                f"{tasks} tasks do not divide over {nodes} nodes, "
                f"and {_TASKS_PER_NODE[0]} is not set"
            )
        return [tasks // nodes] * nodes
    counts = []
    for item in given.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", item)
        if not found:
            raise UserError(
                f"{_TASKS_PER_NODE[0]} is '{given}', where '{item}' is no count such as 2 or 2(x3)"
            )
        counts += [int(found[1])] * int(found[2] or 1)
    if len(counts) != nodes or sum(counts) != tasks:
        raise UserError(
            f"Slurm names {nodes} nodes and {tasks} tasks, but tasks per node of '{given}': "
            "start it with srun"
        )
    return counts


def _slurm_text(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    for name in names:
        if environment.get(name):
            return environment[name]
    raise UserError(
        f"--workers=slurm finds no {names[0]} in the environment: "
        "start each worker with srun, in a Slurm job"
    )


def _slurm_number(environment: Mapping[str, str], names: tuple[str, ...]) -> int:
    text = _slurm_text(environment, names)
    if not text.isdecimal():
        raise UserError(f"{names[0]} is '{text}', which is no number")
    return int(text)


def read_tf_config(environment: Mapping[str, str]) -> Cluster:
    """Reads TF_CONFIG; a chief is worker 0, and the workers come after it.

    Its format is {"cluster": {"worker": [...]}, "task": {"type": ..., "index": ...}}, see
    https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable

    Raises:
      UserError: it is not JSON, not complete, or this process is none of the workers.
    """
    jobs, job, index = _parse_tf_config(environment[TF_CONFIG])
    unknown = sorted({job, *jobs} - {*_JOBS, "evaluator"})
    if unknown or job == "evaluator":
        raise UserError(
            f"{TF_CONFIG} has the job '{unknown[0] if unknown else job}', "
            "but fv trains on a chief and workers only"
        )
    chiefs = [address for name in _CHIEFS for address in jobs.get(name, ())]
    if len(chiefs) > 1:
        raise UserError(f"{TF_CONFIG} has {len(chiefs)} chiefs: give one, and workers")
    count = len(jobs.get(job, ()))
    if not 0 <= index < count:
        raise UserError(
            f"{TF_CONFIG} says that this is {job} {index}, but its cluster has {count} of these"
        )
    worker = index if job in _CHIEFS else index + len(chiefs)
    return Cluster((*chiefs, *jobs.get("worker", ())), worker).check(TF_CONFIG)


def _parse_tf_config(text: str) -> tuple[dict[str, list[str]], str, int]:
    """(addresses of each job, this process's job, its index in it)."""
    try:
        config = json.loads(text)
        jobs = {
            str(name): [str(address) for address in addresses]
            for name, addresses in config["cluster"].items()
        }
        return jobs, str(config["task"]["type"]), int(config["task"]["index"])
    except json.JSONDecodeError as error:
        raise UserError(
            f"{TF_CONFIG} is not JSON ({error}): quote it whole, with ' outside and \" inside"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f'{TF_CONFIG} needs "cluster": {{"worker": [...]}} and '
            '"task": {"type": ..., "index": ...}'
        ) from error


def split_address(address: str, origin: str) -> tuple[str, int]:
    """Splits HOST:PORT; an IPv6 address comes without its brackets.

    Raises:
      UserError: it is not of that form.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) <= _HIGHEST_PORT:
        raise UserError(
            f"{origin} has '{address}' where HOST:PORT is expected, such as 10.0.0.1:12345"
        )
    return host.strip("[]"), int(port)


def expand_hosts(text: str, origin: str) -> list[str]:
    """Expands a list of hosts as Slurm writes it: `node[01-03,07],rack[1-2]-gpu[0-1]`.

    Names keep their order, and numbers their leading zeros.

    Args:
      text: names, separated by commas.
      origin: what holds the text, for messages.

    Raises:
      UserError: it is no such list.
    """
    names: list[str] = []
    for host in map(str.strip, _BETWEEN_HOSTS.split(text)):
        parts = [
            [plain] if plain else _expand_ranges(ranges)
            for ranges, plain in _HOST_PARTS.findall(host)
        ]
        if not _HOST.fullmatch(host) or not all(parts):
            raise UserError(
                f"{origin} has '{text}', where '{host}' is no host such as node1 or node[01-04,7]"
            )
        products = map("".join, itertools.product(*parts))
        names.extend(itertools.islice(products, _MOST_HOSTS + 1 - len(names)))
    if len(names) > _MOST_HOSTS:
        raise UserError(f"{origin} has '{text}', which is more than {_MOST_HOSTS:,} hosts")
    return names


def _expand_ranges(ranges: str) -> list[str]:
    """The numbers of the ranges in brackets; nothing where they are none."""
    if ":" in ranges:
        return [f"[{ranges}]"]  # an IPv6 address
    names: list[str] = []
    for item in ranges.split(","):
        found = _RANGE.fullmatch(item)
        if found is None:
            return []
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < first + _MOST_HOSTS:
            return []
        names.extend(str(number).zfill(len(found[1])) for number in range(first, last + 1))
    return names
