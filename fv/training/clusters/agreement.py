"""What the workers of a run have to agree on, so that all of them do it at the same step."""

import tensorflow as tf


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
