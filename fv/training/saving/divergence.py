"""Losses and weights that are no longer finite: they end a run before anything of them is saved."""

import math

import numpy as np
import tensorflow as tf
import tf_keras

from fv.errors import UserError
from fv.training.clusters.agreement import Agreement


class WeightCheck:
    """Looks for variables that hold an infinity or a NaN, on the devices where they are."""

    def __init__(self, agreement: Agreement, checkpoint: tf.train.Checkpoint):
        """Args: what the workers agree by, and what holds the variables."""
        self._agreement = agreement
        parts = tf.train.TrackableView(checkpoint).descendants()
        rules = [part for part in parts if isinstance(part, tf_keras.optimizers.legacy.Optimizer)]
        slots = [
            variable for rule in rules for variable in rule.variables()
        ]  # which are not among its parts
        variables = [part for part in (*parts, *slots) if isinstance(part, tf.Variable)]
        self._variables = [each for each in variables if each.dtype.is_floating]

    def find_broken(self) -> str | None:
        """The name of a variable that is not finite on some replica, None where all are.

        The workers of a cluster have to call it together. All of them find one where any of them does.
        """
        # Op by op, since tracing a graph of 750 variables takes seconds; nothing waits for a device before the last op.
        local = [
            self._agreement.strategy.experimental_local_results(variable)
            for variable in self._variables
        ]
        squares = [[tf.nn.l2_loss(each) for each in replicas] for replicas in local]
        broken = [
            variable.name
            for variable, replicas, sums in zip(self._variables, local, squares, strict=True)
            if any(
                not math.isfinite(total) and not _is_finite(each)
                for each, total in zip(replicas, sums, strict=True)
            )
        ]
        return (
            next(iter(broken), "a weight of another worker")
            if self._agreement.any(bool(broken))
            else None
        )


def _is_finite(variable: tf.Variable) -> bool:
    """A sum of squares may overflow where each number is finite."""
    return bool(tf.reduce_all(tf.math.is_finite(variable)))


def require_finite_losses(losses: np.ndarray, first_step: int, saved: int) -> None:
    """Checks the losses of the steps behind `first_step`; the last checkpoint is of step `saved`, 0 for none.

    Raises:
      UserError: one of them is not finite.
    """
    broken = np.flatnonzero(~np.isfinite(losses))
    if broken.size:
        raise_diverged(
            f"the loss is {losses[broken[0]]} at step {first_step + broken[0] + 1}", saved
        )


def raise_diverged(what: str, saved: int) -> None:
    """Raises the UserError that says what is not finite, what to change, and from which step the run then goes on."""
    begins = (
        f"goes on from the checkpoint at step {saved}"
        if saved
        else "begins anew, since nothing is saved yet"
    )
    raise UserError(
        f"{what}: lower --learning_rate, and set --clip_norm=1 if that is not enough; the run then {begins}"
    )
