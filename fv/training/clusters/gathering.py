"""From a cluster to its strategy: the roll call first, then TensorFlow, which has no end to its patience."""

from collections.abc import Mapping

import tensorflow as tf

from fv.errors import WorkerLost
from fv.training.clusters import answering, calling, forming
from fv.training.clusters.cluster import Cluster

_GPUS = "number of GPUs"


def form(
    cluster: Cluster, gpus: int, facts: Mapping[str, str], timeout: float
) -> tf.distribute.Strategy:
    """Waits for all workers, and makes the strategy that trains on them; one worker alone opens no port.

    Args:
      cluster: the workers.
      gpus: GPUs of this worker, as many as any other's; with none it computes on its CPU.
      facts: what has to be the same for all workers, by name.
      timeout: seconds that a worker waits for the others.

    Raises:
      UserError: workers are missing when the time is over, or differ.
      WorkerLost: one has gone after all were there.
    """
    if cluster.size == 1:
        return _strategy(tf.train.ClusterSpec({}), "", 0, gpus)
    gather = answering.answer if cluster.index else calling.call
    gather(cluster, {_GPUS: str(gpus), **facts}, timeout)
    late = f"TensorFlow did not form the cluster within --startup_timeout={timeout:g} seconds: a worker has gone, run all again"
    try:
        with forming.bounded(timeout, late):
            return _strategy(
                tf.train.ClusterSpec({"worker": cluster.addresses}), "worker", cluster.index, gpus
            )
    except tf.errors.OpError as error:
        raise WorkerLost(late) from error


def _strategy(
    spec: tf.train.ClusterSpec, role: str, index: int, gpus: int
) -> tf.distribute.Strategy:
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec, task_type=role, task_id=index, num_accelerators={"GPU": gpus}, rpc_layer="grpc"
    )
    return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
