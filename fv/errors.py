"""Exceptions that end a command with one line, and the classes of system errors.

None of the exceptions derives from ValueError or OSError, so code that handles the errors of a
library does not catch them.
"""

import errno
import os
import sys

# A network file system or the network failed: the same command may succeed a moment later.
_TEMPORARY = tuple(
    getattr(errno, name)
    for name in (
        "EAGAIN ECONNABORTED ECONNREFUSED ECONNRESET EHOSTDOWN EHOSTUNREACH EINTR EIO ENETDOWN "
        "ENETRESET ENETUNREACH ENOTCONN EREMOTEIO ESHUTDOWN ESTALE ETIMEDOUT"
    ).split()
)
# The user gave a wrong path, or has to change something on the machine. EPIPE: `fv … | head`.
_USER_FIXABLE = tuple(
    getattr(errno, name)
    for name in (
        "EACCES EADDRINUSE EADDRNOTAVAIL EBUSY EDQUOT EEXIST EFBIG EISDIR ELOOP EMFILE "
        "ENAMETOOLONG ENFILE ENODEV ENOENT ENOMEM ENOSPC ENOTDIR ENOTEMPTY ENOTSUP ENXIO EPERM "
        "EPIPE EROFS ETXTBSY"
    ).split()
)
_ACCESS = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# OSErrors that a library may raise without an errno.
_TEMPORARY_OS_ERRORS = (
    BlockingIOError,
    ConnectionAbortedError,
    ConnectionResetError,
    InterruptedError,
    TimeoutError,
)
_TEMPORARY_TENSORFLOW_ERRORS = ("AbortedError", "DeadlineExceededError", "UnavailableError")


class UserError(Exception):
    """The user gave something wrong. The message is one line: what, with its value, and the remedy.

    Entry points print it without a traceback and exit with `fv.cli.EXIT_ERROR`.
    """


class TemporaryError(Exception):
    """A disk or the network failed in a way that may pass. The message is one line: what and where.

    Entry points print it without a traceback and exit with `fv.cli.EXIT_TEMPORARY`. The same
    command continues.
    """


class Stopped(Exception):
    """A signal stopped a run, which has saved its state. The message is one line: how far it is.

    Entry points print it without a traceback and exit with `fv.cli.EXIT_SAVED`.
    """


class WorkerLost(Exception):
    """Another worker of a run has ended or is silent. The message is one line: which.

    Entry points print it without a traceback and exit with `fv.cli.EXIT_SAVED`. The same command
    continues.
    """


def is_user_fixable(error: Exception) -> bool:
    """Whether the user can fix an error of the system: a missing file, a full disk."""
    return _errno(error) in _USER_FIXABLE


def is_about_access(error: Exception) -> bool:
    """Whether an error of the system says nothing about a file: no permission, no memory."""
    return _errno(error) in _ACCESS


def _errno(error: Exception) -> int | None:
    """The errno of an OSError, or of TensorFlow's error that quotes the system."""
    if isinstance(error, OSError):
        return error.errno
    return errno_in_message(str(error)) if _is_tensorflow_error(error, "OpError") else None


def _is_tensorflow_error(error: Exception, *names: str) -> bool:
    """Whether an error is of one of these classes of tf.errors; does not load TensorFlow."""
    tf_errors = getattr(sys.modules.get("tensorflow"), "errors", None)
    return tf_errors is not None and isinstance(
        error, tuple(getattr(tf_errors, name) for name in names)
    )


def is_temporary(error: Exception) -> bool:
    """Whether an error of the system or of TensorFlow may pass: a network or its disk failed."""
    if isinstance(error, TemporaryError):
        return True
    # Most failures of a disk have no class of their own in TensorFlow, which quotes the system.
    if _errno(error) in _TEMPORARY or isinstance(error, _TEMPORARY_OS_ERRORS):
        return True
    return _is_tensorflow_error(error, *_TEMPORARY_TENSORFLOW_ERRORS)


def quotes_temporary(message: str) -> bool:
    """Whether a message quotes a system error that may pass."""
    return errno_in_message(message) in _TEMPORARY


def errno_in_message(message: str) -> int | None:
    """Returns the errno whose description a message contains, None if it contains none."""
    codes = (*_USER_FIXABLE, *_TEMPORARY)
    return next((code for code in codes if os.strerror(code) in message), None)


def describe(error: Exception) -> str:
    """Describes an error of the system or of TensorFlow in one line, with its file."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror or error}: {error.filename}"
    return str(error).strip().split("\n", 1)[0].partition(" [Op:")[0]


def raise_if_temporary(error: Exception) -> None:
    """Raises TemporaryError if an error may pass; call it before you report it as the user's."""
    if is_temporary(error):
        raise TemporaryError(describe(error)) from error
