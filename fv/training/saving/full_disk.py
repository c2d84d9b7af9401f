"""What is said where a disk takes no more, whatever was being written."""

import contextlib
import errno
import os
import re
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
            f"{_place(error, reason) or workdir} takes no more ({reason}): make room and run the same command again; "
            f"what checkpoints there are in {workdir} are whole"
        ) from error


def _place(error: Exception, reason: str) -> str | None:
    """The file that could not be written, which may lie elsewhere than in the workdir; None where the error names none."""
    if isinstance(error, OSError):
        return error.filename
    named = re.search(rf"(\S+); {reason}", str(error))  # TensorFlow's form
    return named and named[1]
