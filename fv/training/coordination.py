"""Decisions that the workers of a run take together, and detection of a lost worker."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.python.eager import context

from fv.errors import Stopped, UserError, WorkerLost

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
