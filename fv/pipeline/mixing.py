"""A curriculum: pairs of a second, harder data set take a share of every batch, which grows as training goes on.

Which record of which step is a hard one is a pure function of the flags and the step, so a resumed run goes on exactly.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from fv.options import option


@dataclasses.dataclass(frozen=True)
class CurriculumOptions:
    """Which hard pairs, and how their share grows."""

    hard_tfrecords: str | None = option(
        None, "Folder of shards of hard pairs of the same people (tools/mine_pairs.py), mixed into every batch."
    )
    hard_share: float = option(
        0.5, "Share of pairs from hard_tfrecords in a batch, at the end of its growth.", lower=0.0, upper=1.0
    )
    hard_from: float = option(0.0, "Share of the steps behind which it grows from 0, [0, 1].", lower=0.0, upper=1.0)
    hard_until: float = option(0.5, "Share of the steps at which it is fully grown, [0, 1].", lower=0.0, upper=1.0)

    def shares(self, steps: int) -> np.ndarray:
        """The share of hard pairs in each step, float64 [steps]; it grows in a line."""
        progress = np.arange(steps) / steps
        if self.hard_until <= self.hard_from:
            return self.hard_share * (progress >= self.hard_from)
        return self.hard_share * np.clip((progress - self.hard_from) / (self.hard_until - self.hard_from), 0.0, 1.0)


class Mixture:
    """Which records of an input worker's stream are hard ones."""

    def __init__(self, shares: np.ndarray, records: int):
        """Args: the share of hard pairs in each step, float64 [steps], and the worker's records of one step."""
        self._records = records
        self._ends = np.floor(np.cumsum(shares) * records + 0.5).astype(np.int64)  # hard records up to each step's end
        self._counts = np.diff(self._ends, prepend=0)

    def consumed(self, start_record: int) -> tuple[int, int]:
        """How many easy and how many hard records the steps before `start_record`, a step's first, have used."""
        step = min(start_record // self._records, len(self._ends))
        hard = int(self._ends[step - 1]) if step else 0
        hard += (start_record // self._records - step) * int(self._counts[-1])
        return start_record - hard, hard

    def mix(self, easy: tf.data.Dataset, hard: tf.data.Dataset, start_record: int) -> tf.data.Dataset:
        """Records from the two endless streams, those of a step spread evenly over it; beyond the last step as in it."""
        counts, places = tf.constant(self._counts), tf.range(self._records + 1, dtype=tf.int64)

        def choose(step: tf.Tensor) -> tf.data.Dataset:
            before = places * counts[tf.minimum(step, len(self._counts) - 1)] // self._records
            return tf.data.Dataset.from_tensor_slices(before[1:] - before[:-1])

        choices = tf.data.Dataset.range(start_record // self._records, tf.int64.max).flat_map(choose)
        return tf.data.Dataset.choose_from_datasets([easy, hard], choices)
