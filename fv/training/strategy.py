"""The tf.distribute strategy, decisions that its workers take together, and a lost worker.

`start_strategy` sets everything that has to be set before TensorFlow starts its devices.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras
from tensorflow.python.eager import context

from fv import errors, gpus
from fv.errors import Stopped, UserError, WorkerLost
from fv.training import cluster as clusters
from fv.training import rendezvous
from fv.training.options import StrategyOptions

_GPUS = "number of GPUs"  # a setting that all workers share
# What TensorFlow raises when a peer hangs up, or sends no heartbeat for 10 seconds (the chief 30).
_LOST_ERRORS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)
_LOST_MESSAGES = (
    "Collective ops is aborted",
    "CoordinationService",
    "GRPC error information",
    "stopped sending heartbeats",
)
# Longest waits at the end of a run: the chief may still write; after an error others may not come.
_LEAVE_MS, _LEAVE_AFTER_ERROR_MS = 600_000, 5_000
_TASK = re.compile(r"/job:worker/(?:replica:\d+/)?task:(\d+)")


def start_strategy(
    options: StrategyOptions, seed: int, settings: Mapping[str, str] | None = None
) -> tf.distribute.Strategy:
    """Sets devices, determinism, seed and precision, and creates the strategy.

    Call it once, before any op runs.

    Args:
      options: where to compute.
      seed: of TensorFlow's and Python's global random numbers.
      settings: what has to be the same for all workers of a cluster, by name.

    Raises:
      UserError: the devices or the cluster are not there, or its workers disagree.
      WorkerLost: a worker has gone after all were there.
    """
    options.check()
    _split_cpu(options.virtual_devices)
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    if options.strategy == "multi_worker":
        strategy = _multi_worker(options, settings or {})
    elif options.strategy == "mirrored":
        strategy = _mirrored(options)
    elif options.strategy == "tpu":
        strategy = _tpu(options)
    else:
        strategy = tf.distribute.OneDeviceStrategy("GPU:0" if _use_gpus(options) else "CPU:0")
    tf_keras.utils.set_random_seed(seed)
    tf_keras.mixed_precision.set_global_policy(options.precision)
    return strategy


def check_divides(strategy: tf.distribute.Strategy, global_batch_size: int, parts: int = 1) -> None:
    """Checks that the replicas can share the global batch, computed in so many parts, evenly.

    Raises:
      UserError: they cannot.
    """
    replicas = strategy.num_replicas_in_sync
    if global_batch_size % (replicas * parts):
        among = f"{replicas} replicas"
        if parts > 1:
            among += f" in {parts} parts (--accumulate_steps)"
        raise UserError(
            f"--global_batch_size={global_batch_size} does not divide over {among}: "
            f"use a multiple of {replicas * parts}"
        )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes checkpoints and logs."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_type or resolver.task_id == 0


def count_input_workers(strategy: tf.distribute.Strategy) -> int:
    """The processes that read pairs: those of the cluster, the hosts of a TPU, or this one."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        cluster = strategy.cluster_resolver.cluster_spec()
        return sum(cluster.num_tasks(job) for job in cluster.jobs) or 1
    return strategy.extended.num_hosts if isinstance(strategy, tf.distribute.TPUStrategy) else 1


def mirrored_cpus(devices: int) -> tf.distribute.Strategy:
    """A mirrored strategy over the first virtual CPU devices.

    One of them reduces. Collective ops would remember shapes by number, and a second strategy of
    one process counts from the same number again.
    """
    return tf.distribute.MirroredStrategy(
        [f"CPU:{index}" for index in range(devices)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def _mirrored(options: StrategyOptions) -> tf.distribute.Strategy:
    if options.virtual_devices > 1:
        return mirrored_cpus(options.virtual_devices)
    if not _use_gpus(options):
        raise UserError(
            "--strategy=mirrored finds no GPU: use --strategy=one_device, "
            "or --virtual_devices=N to try it on a CPU"
        )
    # More than the physical ones where the caller has split a GPU.
    return tf.distribute.MirroredStrategy(
        [gpu.name for gpu in tf.config.list_logical_devices("GPU")]
    )


def _multi_worker(options: StrategyOptions, settings: Mapping[str, str]) -> tf.distribute.Strategy:
    """Gathers the workers, then lets TensorFlow connect them; one worker alone opens no port."""
    cluster = clusters.find_cluster(options, os.environ)
    count = _use_gpus(options, cluster.local_index, cluster.local_count)
    alone, timeout = cluster.size == 1, options.startup_timeout
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({} if alone else {"worker": cluster.addresses}),
        task_type="" if alone else "worker",
        task_id=cluster.index,
        num_accelerators={"GPU": count},
        rpc_layer="grpc",
    )
    if alone:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    rendezvous.gather(cluster, {_GPUS: str(count), **settings}, timeout)
    late = (
        f"TensorFlow did not form the cluster within --startup_timeout={timeout:g} seconds: "
        "a worker has gone, run all again"
    )
    try:
        with rendezvous.exit_after(timeout, late):
            return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except tf.errors.OpError as error:
        raise WorkerLost(late) from error


def _tpu(options: StrategyOptions) -> tf.distribute.Strategy:
    name = os.environ.get("TPU_NAME", "")  # unset on a TPU VM
    late = (
        f"no answer from the TPU at '{name}' within "
        f"--startup_timeout={options.startup_timeout:g} seconds: check TPU_NAME and the network"
    )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        with rendezvous.exit_after(options.startup_timeout, late):
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        errors.raise_if_temporary(error)
        raise UserError(f"--strategy=tpu finds no TPU at '{name or 'local'}': {error}") from error
    return tf.distribute.TPUStrategy(resolver)


def _split_cpu(devices: int) -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    if devices > len(tf.config.get_logical_device_configuration(cpu) or [cpu]):
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * devices
        )


def _use_gpus(options: StrategyOptions, process: int = 0, processes: int = 1) -> int:
    """Makes the GPUs of this process visible to TensorFlow, and returns their number.

    Args:
      options: how many it may use.
      process: place of this process among those that share the machine's GPUs.
      processes: number of these.

    Raises:
      UserError: there are too few, or TensorFlow sees none of those that are there.
    """
    gpus.require_seen()
    found = tf.config.list_physical_devices("GPU")
    own = share_gpus(found, process, processes, os.environ)
    wanted = options.num_gpus or len(own)
    if wanted > len(own):
        raise UserError(
            f"--num_gpus={wanted} asks for more GPUs than the {len(own)} there are for this process"
        )
    if wanted < len(found):
        tf.config.set_visible_devices(own[:wanted], "GPU")
    return wanted


def share_gpus(
    found: Sequence[Any], process: int, processes: int, environment: Mapping[str, str]
) -> Sequence[Any]:
    """The GPUs of one of the processes that run on a machine.

    Where Slurm binds tasks to GPUs (--gpus-per-task, --gpu-bind), a task sees fewer than the step
    has on the node: these are its own. Elsewhere all tasks see all GPUs, and take equal parts.

    Args:
      found: the GPUs that this process sees.
      process: its place among the processes of the machine.
      processes: number of these.
      environment: of this process.

    Raises:
      UserError: the GPUs do not divide over the processes.
    """
    of_step = [gpu for gpu in environment.get("SLURM_STEP_GPUS", "").split(",") if gpu]
    if processes == 1 or len(found) < max(len(of_step), processes):
        return found
    if len(found) % processes:
        raise UserError(
            f"{len(found)} GPUs do not divide over {processes} tasks of one node: "
            "set --gpus-per-task in Slurm"
        )
    count = len(found) // processes
    return found[process * count : (process + 1) * count]


class Agreement:
    """Combines numbers of all workers; with one process, they are its own.

    All workers have to call the same methods in the same order: each is a collective op.

    Attributes:
      strategy: of the workers.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        self._multi_worker = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def mean(self, *numbers: float) -> list[float]:
        """The mean of each number over the workers, in float32; the same in every worker."""
        if not self._multi_worker:
            return [float(number) for number in numbers]
        total = self._sum(tf.constant(numbers, tf.float32)).numpy()
        return [float(number) for number in total / self.strategy.num_replicas_in_sync]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any worker."""
        return self.mean(flag)[0] > 0.0

    def same(self, number: int) -> bool:
        """Whether the number, below 2**24, is the same in every worker."""
        return not self.any(number != round(self.mean(number)[0]))

    @tf.function(autograph=False)
    def _sum(self, numbers: tf.Tensor) -> tf.Tensor:
        """Sums over the replicas, of which all workers have equally many."""
        per_replica = self.strategy.run(tf.identity, args=(numbers,))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)


@contextlib.contextmanager
def raise_if_worker_lost(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Names the lost worker in one line where the block fails because of it.

    The other workers leave the block together: after it, each process may end at once.

    Raises:
      WorkerLost: another worker of the strategy's cluster has ended, or does not answer.
    """
    try:
        yield
        _wait_for_others(strategy, _LEAVE_MS)
    except Stopped:
        _wait_for_others(strategy, _LEAVE_MS)
        raise
    except UserError:
        _wait_for_others(strategy, _LEAVE_AFTER_ERROR_MS)
        raise
    except _LOST_ERRORS as error:
        message, resolver = str(error), strategy.cluster_resolver
        addresses = _addresses(strategy)
        if len(addresses) < 2 or not any(part in message for part in _LOST_MESSAGES):
            raise
        lost = _find_lost_worker(message, len(addresses), resolver.task_id)
        who = "another worker" if lost is None else f"worker {lost} ({addresses[lost]})"
        raise WorkerLost(
            f"{who} ended or does not answer, and no worker can go on alone: "
            "start all again, from the last checkpoint"
        ) from error


def _wait_for_others(strategy: tf.distribute.Strategy, milliseconds: int) -> None:
    """Waits until no worker needs an answer of this one any more."""
    if len(_addresses(strategy)) > 1:
        with contextlib.suppress(tf.errors.OpError):  # they have ended, or do not come
            context.context().wait_at_barrier("fv_end", milliseconds)


def _addresses(strategy: tf.distribute.Strategy) -> list[str]:
    """HOST:PORT of each worker of a cluster; empty where there is none."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return []
    return strategy.cluster_resolver.cluster_spec().as_dict().get("worker", [])


def _find_lost_worker(message: str, workers: int, own: int) -> int | None:
    """The last worker that TensorFlow names, which is the one that it could not talk to."""
    tasks = map(int, _TASK.findall(message))
    others = [task for task in tasks if task != own and task < workers]
    if others:
        return others[-1]
    chief_is_silent = "CoordinationService/" in message
    return 0 if chief_is_silent and own else None
