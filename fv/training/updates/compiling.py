"""XLA for the step (--xla): where it does not work, one line says so."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from fv.errors import UserError
from fv.model import backbones
from fv.model.siamese import Siamese

_MARKS = ("XLA", "JIT compil")  # one of them is in the message of whatever XLA refuses


def check(strategy: tf.distribute.Strategy, model: Siamese) -> None:
    """Checks what is known not to compile.

    Raises:
      UserError: BatchNorm is synchronised, which merges the replicas in the middle of what is compiled.
    """
    synchronised = any(
        getattr(layer, "synchronized", False)
        for layer in model.encoder.get_layer(backbones.NAME).layers
    )
    if synchronised and strategy.num_replicas_in_sync > 1:
        raise UserError(
            "--xla does not compile --sync_batch_norm over several replicas: leave one of them out"
        )


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turns what XLA says of a step that it does not compile into one line.

    Raises:
      UserError: XLA does not compile the step.
    """
    try:
        yield
    except tf.errors.OpError as error:
        said = [
            line.strip() for line in str(error).splitlines() if any(mark in line for mark in _MARKS)
        ]
        if not said:
            raise
        raise UserError(f"--xla does not compile this step: leave it out ({said[0]})") from error
