"""Tests of fv.errors."""

import errno
import os

import pytest
import tensorflow as tf

from fv import errors
from fv.errors import Stopped, TemporaryError, UserError, WorkerLost


def tensorflow_error(kind: type, text: str) -> tf.errors.OpError:
    return kind(None, None, text)


@pytest.mark.parametrize("kind", [UserError, TemporaryError, Stopped, WorkerLost])
def test_handlers_of_a_librarys_errors_do_not_catch_fvs_own(kind):
    assert not issubclass(kind, (ValueError, OSError, RuntimeError))


@pytest.mark.parametrize(
    "name", ["ESTALE", "EIO", "ETIMEDOUT", "ECONNRESET", "EREMOTEIO", "ENOTCONN", "EHOSTDOWN"]
)
def test_failures_of_a_network_file_system_may_pass(name):
    error = OSError(getattr(errno, name), os.strerror(getattr(errno, name)), "/shared/run")
    assert errors.is_temporary(error) and not errors.is_user_fixable(error)
    with pytest.raises(TemporaryError, match="/shared/run"):
        errors.raise_if_temporary(error)


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "EISDIR", "ENOSPC", "EDQUOT", "EROFS"])
def test_what_the_user_has_to_mend_does_not_pass(name):
    error = OSError(getattr(errno, name), os.strerror(getattr(errno, name)), "/shared/run")
    assert errors.is_user_fixable(error) and not errors.is_temporary(error)
    errors.raise_if_temporary(error)


@pytest.mark.parametrize(
    "error", [OSError("disk on fire"), OSError(errno.EBADF, "Bad file descriptor"), ValueError("x")]
)
def test_all_other_errors_are_bugs(error):
    assert not errors.is_user_fixable(error) and not errors.is_temporary(error)


@pytest.mark.parametrize(
    ("kind", "text", "temporary"),
    [
        (tf.errors.UnavailableError, "503", True),
        (tf.errors.DeadlineExceededError, "too late", True),
        (tf.errors.AbortedError, "/shared/run/ckpt-3.index; Stale file handle", True),
        (tf.errors.UnknownError, "/shared/run/ckpt-3.index; Input/output error", True),
        (tf.errors.FailedPreconditionError, "/shared/a; Transport endpoint is not connected", True),
        (tf.errors.UnknownError, "KeyError: 'no such field'", False),
        (tf.errors.ResourceExhaustedError, "/shared/a; No space left on device", False),
        (tf.errors.NotFoundError, "/shared/a; No such file or directory", False),
    ],
)
def test_errors_of_tensorflow_are_told_apart_by_kind_and_reason(kind, text, temporary):
    assert errors.is_temporary(tensorflow_error(kind, text)) == temporary


def test_a_full_disk_that_tensorflow_reports_is_the_users():
    full = tensorflow_error(tf.errors.ResourceExhaustedError, "/a; No space left on device")
    assert errors.is_user_fixable(full) and not errors.is_about_access(full)
    other = tensorflow_error(tf.errors.ResourceExhaustedError, "OOM when allocating a tensor")
    assert not errors.is_user_fixable(other)


def test_no_permission_says_nothing_about_a_file():
    refused = tensorflow_error(tf.errors.PermissionDeniedError, "/a; Permission denied")
    assert errors.is_about_access(refused)
    assert errors.is_about_access(OSError(errno.EMFILE, os.strerror(errno.EMFILE), "a"))
    assert not errors.is_about_access(OSError(errno.ENOENT, os.strerror(errno.ENOENT), "a"))
