"""TensorBoard profiles of chosen steps."""

import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf


class Profiler:
    """Runs steps, and profiles some of them: the host stops before the first and behind the last of those."""

    def __init__(
        self, run_steps: Callable[[int, int], np.ndarray], first: int, last: int, folder: str
    ):
        """Args:
        run_steps: (steps done before, number of steps) → the loss of each.
        first: the first step of the profile, counted from 1.
        last: the last one.
        folder: TensorBoard's; the profile goes to plugins/profile/ in it.
        """
        self._run_steps, self._folder = run_steps, folder
        self._before, self._last, self._active = first - 1, last, False

    def __call__(self, first_step: int, steps: int) -> np.ndarray:
        """As the `run_steps` that was given."""
        stop = first_step + steps
        cuts = [cut for cut in (self._before, self._last) if first_step < cut < stop]
        return np.concatenate(
            [self._run(*part) for part in itertools.pairwise([first_step, *cuts, stop])]
        )

    def _run(self, start: int, stop: int) -> np.ndarray:
        if self._before <= start < self._last and not self._active:
            tf.profiler.experimental.start(self._folder)
            self._active = True
        losses = self._run_steps(start, stop - start)
        if self._active and stop == self._last:
            tf.profiler.experimental.stop()
            self._active = False
        return losses
