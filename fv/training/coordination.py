"""What the workers of a run have to agree on, so that all of them do it at the same step."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from fv.errors import WorkerLost


class Agreement:
    """Sums a few numbers over all workers; where there is one process, they are its own.

    All workers have to call in the same order, for the sums are collective ops.

    Attributes:
      strategy: of the workers.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        self._workers_apart = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def mean(self, *numbers: float) -> list[float]:
        """The mean of each number over the workers, to float32's precision; the same in every worker."""
        if not self._workers_apart:
            return [float(number) for number in numbers]
        total = self._total(tf.constant(numbers, tf.float32)).numpy()
        return [float(number) for number in total / self.strategy.num_replicas_in_sync]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any worker."""
        return self.mean(flag)[0] > 0.0

    def same(self, number: int) -> bool:
        """Whether the number, below 2**24, is the same in every worker."""
        return not self.any(number != round(self.mean(number)[0]))

    @tf.function(autograph=False)
    def _total(self, numbers: tf.Tensor) -> tf.Tensor:
        """Sums over the replicas, of which each worker has as many as any other."""
        per_replica = self.strategy.run(tf.identity, args=(numbers,))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)


# What is said when another worker is lost in the middle of a run.

# What TensorFlow raises where a peer hangs up, or its heartbeats stay away for 10 seconds, or 30 where it is the chief.
_ERRORS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)
_SIGNS = (
    "Collective ops is aborted",
    "CoordinationService",
    "GRPC error information",
    "stopped sending heartbeats",
)
_TASK = re.compile(r"/job:worker/(?:replica:\d+/)?task:(\d+)")


@contextlib.contextmanager
def raise_if_worker_lost(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Says in one line which worker is lost, where the block fails for that.

    Raises:
      WorkerLost: another worker of the strategy's cluster has ended, or does not answer any more.
    """
    try:
        yield
    except _ERRORS as error:
        text = str(error)
        addresses = _addresses(strategy)
        if len(addresses) < 2 or not any(sign in text for sign in _SIGNS):
            raise
        raise WorkerLost(_describe(text, addresses, strategy.cluster_resolver.task_id)) from error


def _addresses(strategy: tf.distribute.Strategy) -> list[str]:
    resolver = strategy.cluster_resolver
    jobs = (
        resolver.cluster_spec().as_dict()
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        else {}
    )
    return jobs.get("worker", [])


def _describe(text: str, addresses: list[str], own: int) -> str:
    """The message; the last worker that TensorFlow names is the one that it could not talk to."""
    others = [
        int(task) for task in _TASK.findall(text) if int(task) != own and int(task) < len(addresses)
    ]
    chief_silent = "CoordinationService/" in text
    lost = others[-1] if others else 0 if chief_silent and own else None
    who = "another worker" if lost is None else f"worker {lost} ({addresses[lost]})"
    return f"{who} ended or does not answer, and no worker can go on alone: start all again, from the last checkpoint"
