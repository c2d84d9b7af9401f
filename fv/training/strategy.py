"""The tf.distribute strategy, and everything that has to be set before TensorFlow starts its devices."""

import os

import tensorflow as tf
import tf_keras

from fv.errors import UserError
from fv.training.options import StrategyOptions


def start(options: StrategyOptions, seed: int) -> tf.distribute.Strategy:
    """Sets devices, determinism, seed and precision, and makes the strategy. Call it once, before any op runs.

    Raises:
      UserError: the devices or the cluster that were asked for are not there.
    """
    _split_cpu(options.virtual_devices)
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = _STRATEGIES[options.strategy](options)
    tf_keras.utils.set_random_seed(seed)
    tf_keras.mixed_precision.set_global_policy(options.precision)
    return strategy


def check_divides(strategy: tf.distribute.Strategy, global_batch_size: int) -> None:
    """Checks that the replicas can share the global batch evenly.

    Raises:
      UserError: they cannot.
    """
    replicas = strategy.num_replicas_in_sync
    if global_batch_size % replicas:
        raise UserError(f"--global_batch_size={global_batch_size} does not divide over {replicas} replicas: use a multiple")


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes checkpoints and logs."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    return resolver.task_type in ("chief", "master") or (resolver.task_type == "worker" and resolver.task_id == 0)


def mirrored_cpus(devices: int) -> tf.distribute.Strategy:
    """A mirrored strategy over the first virtual CPU devices.

    Their sums are made on one of them: collective ops remember shapes by number, and a second strategy of one process counts
    from the same number again.
    """
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(devices)], cross_device_ops=reduction)


def _split_cpu(devices: int) -> None:
    if devices > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)


def _one_device(options: StrategyOptions) -> tf.distribute.Strategy:
    del options
    return tf.distribute.OneDeviceStrategy("GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0")


def _mirrored(options: StrategyOptions) -> tf.distribute.Strategy:
    if options.virtual_devices > 1:
        return mirrored_cpus(options.virtual_devices)
    found = len(tf.config.list_physical_devices("GPU"))
    if not found:
        raise UserError(
            "--strategy=mirrored finds no GPU: use --strategy=one_device, or --virtual_devices=N to try it on a CPU"
        )
    wanted = options.num_gpus or found
    if wanted > found:
        raise UserError(f"--num_gpus={wanted} asks for more GPUs than the {found} there are")
    return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(wanted)])


def _multi_worker(options: StrategyOptions) -> tf.distribute.Strategy:
    del options
    if not os.environ.get("TF_CONFIG"):
        raise UserError("--strategy=multi_worker needs TF_CONFIG in the environment: see 'Several machines' in BUILD.md")
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu(options: StrategyOptions) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=options.tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise UserError(f"--strategy=tpu finds no TPU at '{options.tpu or 'local'}': {error}") from error
    return tf.distribute.TPUStrategy(resolver)


_STRATEGIES = {"one_device": _one_device, "mirrored": _mirrored, "multi_worker": _multi_worker, "tpu": _tpu}
