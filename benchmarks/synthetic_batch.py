"""A batch in memory: training without any input work."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf


class ConstantBatches:
    """Yields the same batch without end, from the memory of the devices."""

    def __init__(self, strategy: tf.distribute.Strategy, batch: dict[str, np.ndarray]):
        """Args:
        strategy: whose replicas are fed.
        batch: what each replica gets, by name as in `fv.pipeline.input_pipeline`.
        """
        self._batch = {
            name: strategy.experimental_distribute_values_from_function(
                lambda _, part=part: tf.identity(part)
            )
            for name, part in batch.items()
        }

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> dict[str, tf.Tensor]:
        return self._batch


def noise(pairs: int, side: int, identities: int, seed: int) -> dict[str, np.ndarray]:
    """Returns a training batch of random pixels, every other pair genuine."""
    rng = np.random.default_rng(seed)
    people = rng.integers(0, identities, (pairs, 2), np.int32)
    label = np.arange(pairs, dtype=np.int32) % 2
    people[:, 1] = np.where(label, people[:, 0], people[:, 1])
    return {
        "images": rng.integers(0, 256, (pairs, 2, side, side, 3), np.uint8),
        "label": label,
        "identities": people,
        "valid": np.ones(pairs, bool),
    }
