"""Gathers the workers of a run before TensorFlow starts, and checks that their settings agree.

TensorFlow 2.21 waits up to an hour for a missing worker, says nothing, and cannot be interrupted
meanwhile. Here the chief listens on its own port. Each worker sends it its number, its list of the
workers and its settings, and then receives who is missing until nobody is. Messages are JSON
objects, one per line, over TCP.
"""

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fv import options as fv_options
from fv import workers
from fv.errors import UserError
from fv.training.cluster import Cluster, split_address

# Flags that may differ: a machine may have its own copy of the shards.
_OWN_FLAGS = ("--worker_index", "--tfrecords")

# Keys of a worker's message, and of the chief's: the missing workers (none: go on), or an error.
INDEX, ADDRESSES, SETTINGS = "index", "addresses", "settings"
MISSING, ERROR = "missing", "error"

_MOST_MESSAGE_BYTES = 1 << 20
_SEND_SECONDS = 1.0
_ACCEPT_SECONDS = 0.2
_HELLO_SECONDS = 2.0  # a caller that says nothing for so long is no worker
_SILENT_SECONDS = 10.0  # before the chief prints for whom it waits
_CONNECT_SECONDS = 5.0
_RETRY_SECONDS = 0.2

_WATCH = """
import os, select, signal, sys
process, seconds, message = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
if not select.select([0], [], [], seconds)[0]:
    print(message, file=sys.stderr, flush=True)
    os.kill(process, signal.SIGKILL)
"""


def shared_flags(options: Any) -> dict[str, str]:
    """The flags that have to be the same for all workers of a run, by name.

    Args:
      options: an options dataclass (see `fv.options`).
    """
    flags = (line.partition("=") for line in fv_options.to_flagfile(options).splitlines())
    return {name: value for name, _, value in flags if name not in _OWN_FLAGS}


def gather(cluster: Cluster, settings: Mapping[str, str], timeout: float) -> None:
    """Waits until all workers of the cluster are here.

    Args:
      cluster: the workers, two at least.
      settings: what has to be the same for all of them, by name.
      timeout: seconds that a worker waits for the others.

    Raises:
      UserError: workers are missing when the time is over, they disagree, or this worker's port is
        taken. All workers that are here raise the same.
    """
    # Every worker holds its port until TensorFlow takes it over.
    with _open_own_port(cluster) as port:
        if cluster.index:
            _report_to_chief(cluster, settings, timeout)
            return
        chief = _Chief(cluster, settings)
        try:
            chief.wait_for_all(port, timeout)
        except UserError as error:
            chief.broadcast({ERROR: str(error)})
            raise
        finally:
            chief.close()


@contextlib.contextmanager
def exit_after(seconds: float, message: str) -> Iterator[None]:
    """Ends this process with a message if the block takes longer.

    TensorFlow holds Python's lock and swallows SIGTERM while it waits for other workers: neither a
    thread nor a signal handler can end it, but another process can. That one ends when its stdin is
    closed, also by the end of this process.
    """
    watched = [str(os.getpid()), str(seconds), f"fv: error: {message}"]
    command = [sys.executable, "-S", "-c", _WATCH, *watched]
    with workers.block_group_signals():
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
    with process:
        yield


class Connection:
    """Sends and receives messages."""

    def __init__(self, link: socket.socket):
        self._link, self._received = link, b""

    def send(self, message: dict) -> bool:
        """Sends a message, and returns whether the peer is still there to take it."""
        try:
            self._link.settimeout(_SEND_SECONDS)
            self._link.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def receive(self, seconds: float) -> dict | None:
        """The next message; None if none comes within so many seconds.

        Raises:
          ConnectionError: the peer has gone, or does not send messages of this protocol.
        """
        # The socket's own timeout: select() refuses file descriptors from 1,024 on.
        self._link.settimeout(max(0.0, seconds))
        while b"\n" not in self._received:
            try:
                data = self._link.recv(1 << 16)
            except (TimeoutError, BlockingIOError):
                return None
            if not data or len(self._received) > _MOST_MESSAGE_BYTES:
                raise ConnectionError("it hung up")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        with contextlib.suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict):
                return message
        raise ConnectionError("it is no worker of fv")

    def is_open(self) -> bool:
        """Whether the peer, which has nothing more to say, has not hung up."""
        try:
            return self.receive(0.0) is None
        except OSError:
            return False

    def close(self) -> None:
        """Hangs up."""
        self._link.close()


class _Chief:
    """Worker 0, to which the others report."""

    def __init__(self, cluster: Cluster, settings: Mapping[str, str]):
        self._cluster, self._settings = cluster, settings
        self._present: dict[int, Connection] = {}
        self._reported: set[int] = set()  # at any time

    def wait_for_all(self, server: socket.socket, timeout: float) -> None:
        """Accepts workers at the port until all are here, and tells them who is missing."""
        began, printed = time.monotonic(), False
        server.settimeout(_ACCEPT_SECONDS)
        while missing := self._missing():
            waited = time.monotonic() - began
            if waited > timeout:
                # Workers that gave up a little earlier than the chief are not to blame.
                never = [worker for worker in missing if worker not in self._reported]
                raise _missing_error(self._cluster, never or missing, timeout)
            if waited > _SILENT_SECONDS and not printed:
                printed = True
                print(f"waits for {self._cluster.describe(missing)}", file=sys.stderr, flush=True)
            self._accept(server)
            self._present = {n: peer for n, peer in self._present.items() if peer.is_open()}
            self.broadcast({MISSING: self._missing()})

    def broadcast(self, message: dict) -> None:
        """Sends a message to all workers that are here; those that do not take it are missing."""
        self._present = {n: peer for n, peer in self._present.items() if peer.send(message)}

    def close(self) -> None:
        """Ends all connections."""
        for peer in self._present.values():
            peer.close()

    def _missing(self) -> list[int]:
        return [worker for worker in range(1, self._cluster.size) if worker not in self._present]

    def _accept(self, server: socket.socket) -> None:
        try:
            link, _ = server.accept()
        except TimeoutError:
            return
        peer = Connection(link)
        try:
            hello = peer.receive(_HELLO_SECONDS) or {}
        except OSError:
            hello = {}
        worker = hello.get(INDEX)
        if not isinstance(worker, int):
            peer.close()  # a port scan, or a health check
            return
        before = self._present.get(worker)
        self._present[worker] = peer
        self._reported.add(worker)
        if before is not None and before.is_open():
            error = f"two processes say that they are worker {worker}: give each its own index"
            before.send({ERROR: error})
            raise UserError(error)
        self._check_agrees(worker, hello)

    def _check_agrees(self, worker: int, hello: dict) -> None:
        """Checks that a worker has the chief's addresses and settings."""
        own, theirs = self._cluster.addresses, hello.get(ADDRESSES, ())
        if list(theirs) != list(own):
            raise UserError(
                f"worker {worker} was told the workers {','.join(map(str, theirs))}, "
                f"worker 0 {','.join(own)}: give all the same list"
            )
        settings, others = self._settings, hello.get(SETTINGS, {})
        for name in sorted({*settings, *others}):
            if settings.get(name) != others.get(name):
                raise UserError(
                    f"worker {worker} has {name}={others.get(name)}, "
                    f"worker 0 has {name}={settings.get(name)}: give all the same"
                )


def _report_to_chief(cluster: Cluster, settings: Mapping[str, str], timeout: float) -> None:
    deadline, reason, missing = time.monotonic() + timeout, "", [0]
    while missing and time.monotonic() < deadline:
        try:
            missing = _ask_chief(cluster, settings, deadline)
        except OSError as error:
            missing, reason = [0], (error.strerror or str(error)).lower()
            time.sleep(_RETRY_SECONDS)
    if missing:
        raise _missing_error(cluster, missing, timeout, reason if missing == [0] else "")


def _ask_chief(cluster: Cluster, settings: Mapping[str, str], deadline: float) -> list[int]:
    """Waits until no worker is missing or the time is over, and returns who is missing.

    Raises:
      OSError: the chief is not there, or not any more.
      UserError: the chief says what is wrong.
    """
    seconds = min(_CONNECT_SECONDS, max(_RETRY_SECONDS, deadline - time.monotonic()))
    link = socket.create_connection(
        split_address(cluster.addresses[0], "the cluster"), timeout=seconds
    )
    with contextlib.closing(Connection(link)) as chief:
        chief.send({INDEX: cluster.index, ADDRESSES: cluster.addresses, SETTINGS: dict(settings)})
        missing = [0]
        while missing:
            message = chief.receive(deadline - time.monotonic())
            if message is None:
                break
            if ERROR in message:
                raise UserError(str(message[ERROR]))
            missing = message.get(MISSING, missing)
        return missing


def _open_own_port(cluster: Cluster) -> socket.socket:
    _, port = split_address(cluster.addresses[cluster.index], "the cluster")
    with contextlib.suppress(OSError):  # a machine may have no IPv6
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=cluster.size
        )
    try:
        return socket.create_server(("", port), backlog=cluster.size)
    except OSError as error:
        why = "another process has it" if error.errno == errno.EADDRINUSE else error.strerror
        raise UserError(
            f"port {port} of {cluster.describe([cluster.index])} cannot be opened, {why}: "
            "end that, or give another port"
        ) from error


def _missing_error(
    cluster: Cluster, missing: Iterable[int], timeout: float, reason: str = ""
) -> UserError:
    who = cluster.describe(missing) + (f" ({reason})" if reason else "")
    return UserError(
        f"the cluster did not form within --startup_timeout={timeout:g} seconds, "
        f"no answer from {who}: start them all, or check addresses, names and firewalls"
    )
