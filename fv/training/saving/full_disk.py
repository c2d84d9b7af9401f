"""What is said where the workdir's disk takes no more, whatever was being written."""

import contextlib
import errno
import os
from collections.abc import Iterator

import tensorflow as tf

from fv.errors import UserError

_REASONS = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT)))


@contextlib.contextmanager
def told(workdir: str) -> Iterator[None]:
    """Says in one line that the disk is full, or the quota used up.

    Raises:
      UserError: the block failed for that, in Python or in TensorFlow.
    """
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        reason = next((reason for reason in _REASONS if reason in str(error)), None)
        if reason is None:
            raise
        raise UserError(
            f"{workdir} takes no more ({reason}): make room and run the same command again; its checkpoints are whole"
        ) from error
