"""The exceptions that end a command in one line, and what errors of the system mean for its user.

None of them is a ValueError or an OSError, so that code which handles those of a library does not catch them.
"""

import errno
import os
import sys

# A network file system or the network failed. The same command may succeed a moment later.
_TEMPORARY = (
    errno.EAGAIN,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EINTR,
    errno.EIO,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.ENETUNREACH,
    errno.ENOTCONN,
    errno.EREMOTEIO,
    errno.ESHUTDOWN,
    errno.ESTALE,
    errno.ETIMEDOUT,
)
# The user gave the wrong path, or has to change something on the machine.
_OF_USER = (
    errno.EACCES,
    errno.EADDRINUSE,
    errno.EADDRNOTAVAIL,
    errno.EBUSY,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EISDIR,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENFILE,
    errno.ENODEV,
    errno.ENOENT,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.ENOTSUP,
    errno.ENXIO,
    errno.EPERM,
    errno.EPIPE,  # `fv … | head`
    errno.EROFS,
    errno.ETXTBSY,
)
_TEMPORARY_KINDS = (
    BlockingIOError,
    ConnectionAbortedError,
    ConnectionResetError,
    InterruptedError,
    TimeoutError,
)
_TEMPORARY_OF_TENSORFLOW = ("AbortedError", "DeadlineExceededError", "UnavailableError")


class UserError(Exception):
    """Something the user gave is wrong: the message is one line that says what, with its value, and what to do.

    Entry points print it without a traceback and exit with `fv.cli.EXIT_ERROR`.
    """


class TemporaryError(Exception):
    """A disk or the network failed in a way that may pass: the message is one line that says what and where.

    Entry points print it without a traceback and exit with `fv.cli.EXIT_TEMPORARY`: started again, the command goes on.
    """


class Stopped(Exception):
    """Someone asked a run to stop, and it has saved what it had: the message is one line that says how far it is.

    Entry points print it without a traceback and exit with `fv.cli.EXIT_SAVED`.
    """


class WorkerLost(Exception):
    """Another worker of a run on several machines has ended or is silent: the message is one line that says which.

    Entry points print it without a traceback and exit with `fv.cli.EXIT_SAVED`: started again, the run goes on.
    """


def is_user_fixable(error: Exception) -> bool:
    """Whether an error of the system is for the user to mend: a missing file, no permission, a full disk."""
    return isinstance(error, OSError) and error.errno in _OF_USER


def is_temporary(error: Exception) -> bool:
    """Whether an OSError or an error of TensorFlow's may pass: a network file system or the network failed."""
    if isinstance(error, TemporaryError):
        return True
    if isinstance(error, OSError):
        return error.errno in _TEMPORARY or isinstance(error, _TEMPORARY_KINDS)
    tensorflow = sys.modules.get("tensorflow")  # commands that do without it must not load it here
    known = getattr(tensorflow, "errors", None)
    if known is None or not isinstance(error, known.OpError):
        return False
    kinds = tuple(getattr(known, name) for name in _TEMPORARY_OF_TENSORFLOW)
    # TensorFlow has no kind of its own for most of them, but repeats what the system says.
    return isinstance(error, kinds) or errno_in_message(str(error)) in _TEMPORARY


def errno_in_message(text: str) -> int | None:
    """The error number whose description by the system is part of a text; None where there is none."""
    return next((code for code in (*_OF_USER, *_TEMPORARY) if os.strerror(code) in text), None)


def describe(error: Exception) -> str:
    """One line on an OSError or an error of TensorFlow's: what is wrong, and with which file."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror or error}: {error.filename}"
    return str(error).strip().split("\n", 1)[0].partition(" [Op:")[0]


def raise_if_temporary(error: Exception) -> None:
    """Raises TemporaryError where an error may pass; call it before the error is reported as the user's."""
    if is_temporary(error):
        raise TemporaryError(describe(error)) from error
