"""The tf.distribute strategy, and everything that has to be set before TensorFlow starts its devices."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from fv import gpus
from fv.errors import UserError
from fv.training import cluster as clusters
from fv.training import rendezvous
from fv.training.options import StrategyOptions

# Which of a machine's GPUs are whose, where Slurm runs several workers on it.


def share_gpus(
    found: Sequence[Any], process: int, processes: int, environment: Mapping[str, str]
) -> Sequence[Any]:
    """The GPUs of one of the processes that run on a machine.

    Where Slurm binds tasks to GPUs (--gpus-per-task, --gpu-bind), a task sees fewer than the step has on the node: these are
    its own. Elsewhere all tasks see all of them, and each takes an equal part in the order of its place.

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
            f"{len(found)} GPUs do not divide over {processes} tasks of one node: set --gpus-per-task in Slurm"
        )
    count = len(found) // processes
    return found[process * count : (process + 1) * count]


def start_strategy(
    options: StrategyOptions, seed: int, facts: Mapping[str, str] | None = None
) -> tf.distribute.Strategy:
    """Sets devices, determinism, seed and precision, and makes the strategy. Call it once, before any op runs.

    Args:
      options: where to compute.
      seed: of what TensorFlow draws by itself.
      facts: what has to be the same for all workers of a cluster, by name.

    Raises:
      UserError: the devices or the cluster that were asked for are not there, or its workers disagree.
    """
    options.check()
    _split_cpu(options.virtual_devices)
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    if options.strategy == "multi_worker":
        strategy = _multi_worker(options, facts or {})
    else:
        strategy = _STRATEGIES[options.strategy](options)
    tf_keras.utils.set_random_seed(seed)
    tf_keras.mixed_precision.set_global_policy(options.precision)
    return strategy


def check_divides(strategy: tf.distribute.Strategy, global_batch_size: int, parts: int = 1) -> None:
    """Checks that the replicas can share the global batch, worked through in so many parts, evenly.

    Raises:
      UserError: they cannot.
    """
    replicas = strategy.num_replicas_in_sync
    if global_batch_size % (replicas * parts):
        among = f"{replicas} replicas" + (
            f" in {parts} parts (--accumulate_steps)" if parts > 1 else ""
        )
        raise UserError(
            f"--global_batch_size={global_batch_size} does not divide over {among}: use a multiple of {replicas * parts}"
        )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes checkpoints and logs."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    return resolver.task_type in ("chief", "master") or (
        resolver.task_type == "worker" and resolver.task_id == 0
    )


def count_input_workers(strategy: tf.distribute.Strategy) -> int:
    """The processes that read pairs: those of the cluster, the hosts of a TPU, or this one."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        cluster = strategy.cluster_resolver.cluster_spec()
        return sum(cluster.num_tasks(job) for job in cluster.jobs) or 1
    return strategy.extended.num_hosts if isinstance(strategy, tf.distribute.TPUStrategy) else 1


def mirrored_cpus(devices: int) -> tf.distribute.Strategy:
    """A mirrored strategy over the first virtual CPU devices.

    Their sums are made on one of them: collective ops remember shapes by number, and a second strategy of one process counts
    from the same number again.
    """
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(
        [f"CPU:{index}" for index in range(devices)], cross_device_ops=reduction
    )


def _split_cpu(devices: int) -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    if devices > len(tf.config.get_logical_device_configuration(cpu) or [cpu]):
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * devices
        )


def _one_device(options: StrategyOptions) -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("GPU:0" if _use_gpus(options) else "CPU:0")


def _mirrored(options: StrategyOptions) -> tf.distribute.Strategy:
    if options.virtual_devices > 1:
        return mirrored_cpus(options.virtual_devices)
    count = _use_gpus(options)
    if not count:
        raise UserError(
            "--strategy=mirrored finds no GPU: use --strategy=one_device, or --virtual_devices=N to try it on a CPU"
        )
    return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(count)])


def _multi_worker(options: StrategyOptions, facts: Mapping[str, str]) -> tf.distribute.Strategy:
    cluster = clusters.find_cluster(options, os.environ)
    count = _use_gpus(options, cluster.local_index, cluster.local_count)
    return rendezvous.form_strategy(cluster, count, facts, options.startup_timeout)


def _use_gpus(options: StrategyOptions, process: int = 0, processes: int = 1) -> int:
    """Shows TensorFlow the GPUs that are this process's, and returns their number.

    Args:
      options: how many it may use.
      process: place of this process among those that share the machine's GPUs.
      processes: number of these; Slurm binds each to its own GPUs or shows all of them to each.

    Raises:
      UserError: it has too few, or TensorFlow sees none of those that are there.
    """
    gpus.require_seen()
    found = tf.config.list_physical_devices("GPU")
    shared = share_gpus(found, process, processes, os.environ)
    wanted = options.num_gpus or len(shared)
    if wanted > len(shared):
        raise UserError(
            f"--num_gpus={wanted} asks for more GPUs than the {len(shared)} there are for this process"
        )
    if wanted < len(found):
        tf.config.set_visible_devices(shared[:wanted], "GPU")
    return wanted


def _tpu(options: StrategyOptions) -> tf.distribute.Strategy:
    name = os.environ.get("TPU_NAME", "")  # as TensorFlow takes it; on a TPU VM there is none
    late = f"no answer from the TPU at '{name}' within --startup_timeout={options.startup_timeout:g} seconds"
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        with rendezvous.exit_after(
            options.startup_timeout, f"{late}: check TPU_NAME and the network"
        ):
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise UserError(f"--strategy=tpu finds no TPU at '{name or 'local'}': {error}") from error
    return tf.distribute.TPUStrategy(resolver)


_STRATEGIES = {"one_device": _one_device, "mirrored": _mirrored, "tpu": _tpu}
