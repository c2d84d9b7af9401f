"""Calls without what libjpeg writes to stderr of a damaged file: the error says it in one line.

For the command line alone: file descriptor 2 is the whole process's.
"""

from collections.abc import Callable
from typing import TypeVar

from fv import quiet_tensorflow
from fv.errors import UserError

Answer = TypeVar("Answer")


def quietly(call: Callable[..., Answer], *arguments) -> Answer:
    """What the call returns, or its UserError; stderr is shown after all if it raises anything else."""
    with quiet_tensorflow.stderr_held_back():
        try:
            return call(*arguments)
        except UserError as error:
            failure = error
    raise failure
