"""Implements `fv.files` for paths with a scheme (gs://, hdfs://, s3://, file://) by `tf.io.gfile`.

Errors of TensorFlow become the OSError that a local file would raise.
"""

import contextlib
import errno
import functools
import os
import uuid
from collections.abc import Callable, Iterator
from typing import IO

import tensorflow as tf

import fv.quiet_tensorflow  # noqa: F401
from fv import errors

_ERRNO = {
    tf.errors.NotFoundError: errno.ENOENT,
    tf.errors.PermissionDeniedError: errno.EACCES,
    tf.errors.ResourceExhaustedError: errno.ENOSPC,
    tf.errors.AlreadyExistsError: errno.EEXIST,
    tf.errors.UnimplementedError: errno.ENOTSUP,  # no such scheme
    tf.errors.InvalidArgumentError: errno.ENOTSUP,  # no bucket in the path
    tf.errors.DeadlineExceededError: errno.ETIMEDOUT,
}
_OTHER_ERRNO = errno.EIO  # UNAVAILABLE, ABORTED, INTERNAL and the like of a server: it may pass


@contextlib.contextmanager
def _raise_os_errors(path: str) -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        # Local and mounted disks name the errno in the message.
        code = errors.errno_in_message(error.message) or next(
            (code for kind, code in _ERRNO.items() if isinstance(error, kind)), _OTHER_ERRNO
        )
        raise OSError(code, error.message.splitlines()[0], path) from error


def _wrap(function: Callable) -> Callable:
    """Lets a function of `tf.io.gfile` raise OSErrors."""

    @functools.wraps(function)
    def call(path: str):
        with _raise_os_errors(path):
            return function(path)

    return call


exists = _wrap(tf.io.gfile.exists)
names = _wrap(tf.io.gfile.listdir)  # an object store ends the names of folders with '/'
make_folder = _wrap(tf.io.gfile.makedirs)
remove = _wrap(tf.io.gfile.remove)


def is_folder(path: str) -> bool:
    try:
        with _raise_os_errors(path):
            return tf.io.gfile.stat(path).is_directory  # isdir hides errors
    except FileNotFoundError:
        return False


def read_bytes(path: str, offset: int, length: int | None) -> bytes:
    with _raise_os_errors(path), tf.io.gfile.GFile(path, "rb") as file:
        file.seek(offset)
        return file.read(-1 if length is None else length)


def open_bytes(path: str) -> IO[bytes]:
    with _raise_os_errors(path):
        file = tf.io.gfile.GFile(path, "rb")
        file.size()  # opens it: a missing file raises here
        return file


def size(path: str) -> int:
    with _raise_os_errors(path):
        return tf.io.gfile.stat(path).length


def rename(source: str, target: str) -> None:
    with _raise_os_errors(source):
        tf.io.gfile.rename(source, target, overwrite=True)


def remove_folder(path: str) -> None:
    with contextlib.suppress(tf.errors.OpError):
        tf.io.gfile.rmtree(path)


@contextlib.contextmanager
def atomic_open(path: str, mode: str, suffix: str, temporary: str | None) -> Iterator[IO]:
    temporary = temporary or f"{path}{suffix}{os.getpid()}-{uuid.uuid4().int}"
    with _raise_os_errors(path):
        try:
            with tf.io.gfile.GFile(temporary, mode) as file:
                yield file
            tf.io.gfile.rename(temporary, path, overwrite=True)
        except BaseException:
            with contextlib.suppress(tf.errors.OpError):
                tf.io.gfile.remove(temporary)
            raise
