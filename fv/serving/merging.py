"""Requests that arrive together go through the network together, behind their decoders, in the graph.

A server that merges whole requests, as TensorFlow Serving does with --enable_batching, fails all of them by the one bad
image of one. Here every request has checked and decoded its own images before any are merged, and fails alone. On two
cores 16 callers with a pair each got 161 pairs a second, one caller 49 (benchmarks/results/serving.md).
"""

from collections.abc import Callable

import tensorflow as tf

_BATCHES_AT_ONCE = 1  # on all cores; what arrives meanwhile makes up the next
_WAIT_MICROSECONDS = 0  # nothing is held back to gather more: requests merge while they wait for the batch before theirs
_MOST_WAITING = 1 << 16  # batches; a request past them is refused
_MOST_ROWS = 1 << 30  # of a call, which is split
_QUEUE = "images"


def merge(
    encode: tf.types.experimental.ConcreteFunction, most: int, name: str
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function that goes through `encode` with the rows of concurrent calls.

    Args:
      encode: one tensor [n, …] → one tensor [n, …], row by row, for n > 0.
      most: rows at once; a call with more is split.
      name: of the process's queue: calls with another `encode`, or other weights behind it, must not use the same. (That of
        `tf.nondifferentiable_batch_function` is "batch/" in every model, which mixes the answers of two.)

    Returns:
      A function of one tensor, as `encode`.
    """

    def call(rows):
        (answers,) = tf.raw_ops.BatchFunction(
            in_tensors=[rows],
            captured_tensors=encode.captured_inputs,
            f=encode,
            Tout=[encode.outputs[0].dtype],
            num_batch_threads=_BATCHES_AT_ONCE,
            max_batch_size=_MOST_ROWS,
            allowed_batch_sizes=list(range(1, most + 1)),  # every one: others would be padded
            batch_timeout_micros=_WAIT_MICROSECONDS,
            max_enqueued_batches=_MOST_WAITING,
            enable_large_batch_splitting=True,
            shared_name=name,
            batching_queue=_QUEUE,
        )
        return tf.ensure_shape(answers, encode.outputs[0].shape)

    return call
