"""A tf.data service of two workers on loopback, by the tool that starts one."""

import contextlib
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
import tensorflow as tf

from fv.pipeline import service
from tests.pipeline.streams import pairs_of

ARGUMENTS = dict(batch_size=1, seed=3, shuffle_buffer=4)
_ROOT = pathlib.Path(__file__).parents[2]


def in_this_process() -> tuple[str, list]:
    """The address of a dispatcher with a worker, and both servers, to be kept alive."""
    made = tf.data.experimental.service
    dispatcher = made.DispatchServer()
    return dispatcher.target, [dispatcher, start_worker(dispatcher.target)]


def start_worker(address: str) -> tf.data.experimental.service.WorkerServer:
    """Starts a worker of a dispatcher in this process."""
    made = tf.data.experimental.service
    return made.WorkerServer(made.WorkerConfig(address.removeprefix("grpc://")))


@contextlib.contextmanager
def running() -> Iterator[tuple[str, subprocess.Popen, tuple[subprocess.Popen, subprocess.Popen]]]:
    """(address of a dispatcher, its process, its two workers' processes)"""
    with _process("--role=dispatcher") as (dispatcher, said):
        address = said.split()[-1]
        worker = (
            "--role=worker",
            f"--dispatcher={address.removeprefix('grpc://')}",
            "--host=localhost",
        )
        with _process(*worker) as (first, _), _process(*worker) as (second, _):
            yield address, dispatcher, (first, second)


def drawn(source, address: str) -> Iterator:
    """The pairs that come from the service, without end."""
    batches = service.service_batches(source, source.worker_slices(0, 1), address, **ARGUMENTS)
    return (pairs_of(batch)[0] for batch in batches)


def drawn_once(source, address: str) -> Iterator:
    """The pairs of one epoch: the shards are dealt once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "_EPOCHS", 1)
        return drawn(source, address)


@contextlib.contextmanager
def _process(*flags: str):
    """A process of the tool and the first line that it prints."""
    command = [sys.executable, "tools/data_service.py", *flags]
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running, running.stdout.readline()
        finally:
            running.kill()
