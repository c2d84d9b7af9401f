"""How long training waited for its input."""

import dataclasses
import time

import tensorflow as tf

BOUND_SHARE = 0.1  # of the time, from which on a run is called input-bound


def clock(*behind: tf.Tensor) -> tf.Tensor:
    """Seconds of this host's clock, float64 scalar, as soon as the tensors `behind` which it comes are there.

    It waits for nothing else: TensorFlow runs ops with side effects in the order of the program. (`tf.timestamp` refuses to
    run deterministically.)
    """
    with tf.device("CPU:0"), tf.control_dependencies(behind):
        return tf.ensure_shape(
            tf.numpy_function(lambda _: time.time(), behind[:1], tf.float64, stateful=False), ()
        )


@dataclasses.dataclass
class StallMeter:
    """Seconds that the device's work took and seconds of them in which it had no batch to work on."""

    waited: float = 0.0
    elapsed: float = 0.0

    def add(self, waited: float, elapsed: float) -> None:
        """Counts some steps."""
        self.waited += waited
        self.elapsed += elapsed

    @property
    def share(self) -> float:
        """Of the time that was spent waiting, [0, 1]."""
        return self.waited / self.elapsed if self.elapsed else 0.0

    def since(self, earlier: "StallMeter") -> "StallMeter":
        """What was counted after `earlier`, a copy."""
        return StallMeter(self.waited - earlier.waited, self.elapsed - earlier.elapsed)

    def verdict(self, advice: str) -> str:
        """One sentence: whether the run was input-bound, and where it was, what to change."""
        found = f"{self.share:.0%} of the training time was spent waiting for input"
        return (
            f"{found}: input-bound; {advice}"
            if self.share >= BOUND_SHARE
            else f"{found}: not input-bound"
        )
