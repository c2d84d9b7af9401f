"""Decisions that the workers of a run take together, and detection of a lost worker."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from fv.errors import WorkerLost

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
_TASK = re.compile(r"/job:worker/(?:replica:\d+/)?task:(\d+)")


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

    Raises:
      WorkerLost: another worker of the strategy's cluster has ended, or does not answer.
    """
    try:
        yield
    except _LOST_ERRORS as error:
        message, resolver = str(error), strategy.cluster_resolver
        multi_worker = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        jobs = resolver.cluster_spec().as_dict() if multi_worker else {}
        addresses = jobs.get("worker", [])
        if len(addresses) < 2 or not any(part in message for part in _LOST_MESSAGES):
            raise
        lost = _find_lost_worker(message, len(addresses), resolver.task_id)
        who = "another worker" if lost is None else f"worker {lost} ({addresses[lost]})"
        raise WorkerLost(
            f"{who} ended or does not answer, and no worker can go on alone: "
            "start all again, from the last checkpoint"
        ) from error


def _find_lost_worker(message: str, workers: int, own: int) -> int | None:
    """The last worker that TensorFlow names, which is the one that it could not talk to."""
    tasks = map(int, _TASK.findall(message))
    others = [task for task in tasks if task != own and task < workers]
    if others:
        return others[-1]
    chief_is_silent = "CoordinationService/" in message
    return 0 if chief_is_silent and own else None
