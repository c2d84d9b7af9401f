"""What workers say to each other while they gather: JSON objects, one a line, over TCP."""

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

import tensorflow as tf

from fv import options as fv_options
from fv.errors import UserError, WorkerLost
from fv.training.cluster import Cluster, host_of, port_of

_LONGEST_BYTES = 1 << 20
_SENDING_S = 1.0


class Connection:
    """Sends and receives messages; a peer that has gone is no error but an empty answer."""

    def __init__(self, link: socket.socket):
        self._link, self._received = link, b""

    def send(self, message: dict) -> bool:
        """Sends a message, and returns whether the peer is still there to take it."""
        try:
            self._link.settimeout(_SENDING_S)
            self._link.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def receive(self, seconds: float) -> dict | None:
        """The next message; None where none comes within so many seconds.

        Raises:
          ConnectionError: the peer has gone, or talks of something else.
        """
        # The socket's own timeout: select() takes no file descriptor from 1,024 on, and a worker may have more of them.
        self._link.settimeout(max(0.0, seconds))
        while b"\n" not in self._received:
            try:
                data = self._link.recv(1 << 16)
            except (TimeoutError, BlockingIOError):
                return None
            if not data or len(self._received) > _LONGEST_BYTES:
                raise ConnectionError("it hung up")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return _parse(line)

    def close(self) -> None:
        """Hangs up."""
        self._link.close()


def _parse(line: bytes) -> dict:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise ConnectionError("it is no worker of fv") from error
    if not isinstance(message, dict):
        raise ConnectionError("it is no worker of fv")
    return message


# All workers gather before TensorFlow starts, so that what is missing or different is said by
# name and in time.
#
# TensorFlow 2.21 waits for an hour where a worker is missing, says nothing, and cannot be
# interrupted meanwhile. Here the
# chief listens on its own port (`calling`), and each worker tells it its number and its flags
# (`answering`), and hears who is
# missing until nobody is.

MISSING = "missing"  # to a worker: who is missing; nobody: go
MISTAKE = "mistake"  # to a worker: what is wrong, in one line
INDEX, ADDRESSES, FACTS = (
    "index",
    "addresses",
    "facts",
)  # to the chief: who calls, and what it was told


def open_own_port(cluster: Cluster) -> socket.socket:
    """Opens this worker's own port, which TensorFlow takes over afterwards.

    Raises:
      UserError: something else has it.
    """
    port = port_of(cluster.addresses[cluster.index], "the cluster")
    with contextlib.suppress(OSError):  # a machine may have no IPv6
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=cluster.size
        )
    try:
        return socket.create_server(("", port), backlog=cluster.size)
    except OSError as error:
        why = "another process has it" if error.errno == errno.EADDRINUSE else error.strerror
        whose = cluster.describe([cluster.index])
        raise UserError(
            f"port {port} of {whose} cannot be opened, {why}: end that, or give another port"
        ) from error


def describe_missing(
    cluster: Cluster, missing: Iterable[int], timeout: float, reason: str = ""
) -> UserError:
    """What is said where workers are missing when the time is over."""
    who = cluster.describe(missing) + (f" ({reason})" if reason else "")
    late = f"the cluster did not form within --startup_timeout={timeout:g} seconds"
    return UserError(
        f"{late}, no answer from {who}: start them all, or check addresses, names and firewalls"
    )


# The chief's part of the roll call: it hears who comes, and tells all who is missing.

_QUIET_S = 10.0  # after which the chief says for whom it waits
_ROUND_S = 0.2
_HELLO_S = 2.0  # a caller that says nothing for so long is no worker


def gather_workers(cluster: Cluster, facts: Mapping[str, str], timeout: float) -> None:
    """Waits until all workers have said that they are here, and tells them to go on.

    Raises:
      UserError: workers are missing when the time is over, or disagree; all that are there are told the same.
    """
    chief = _Chief(cluster, facts)
    with open_own_port(cluster) as server:
        try:
            _wait(chief, server, timeout)
        except UserError as error:
            chief.tell({MISTAKE: str(error)})
            raise
        finally:
            chief.hang_up()


def _wait(chief: "_Chief", server: socket.socket, timeout: float) -> None:
    began, told = time.monotonic(), False
    server.settimeout(_ROUND_S)
    while chief.missing():
        waited = time.monotonic() - began
        if waited > timeout:
            raise describe_missing(chief.cluster, chief.never_came() or chief.missing(), timeout)
        if waited > _QUIET_S and not told:
            told = True
            print(
                f"waits for {chief.cluster.describe(chief.missing())}", file=sys.stderr, flush=True
            )
        chief.hear(server)
        chief.drop_gone()
        chief.tell({MISSING: chief.missing()})


class _Chief:
    """Worker 0: it knows who is there."""

    def __init__(self, cluster: Cluster, facts: Mapping[str, str]):
        self.cluster, self._facts = cluster, facts
        self._present: dict[int, Connection] = {}
        self._came: set[int] = set()

    def missing(self) -> list[int]:
        """The workers that are not there."""
        return [worker for worker in range(1, self.cluster.size) if worker not in self._present]

    def never_came(self) -> list[int]:
        """The workers that never were there; others may have come and lost patience a moment before the chief."""
        return [worker for worker in self.missing() if worker not in self._came]

    def drop_gone(self) -> None:
        """Those who have hung up are missing again."""
        self._present = {worker: peer for worker, peer in self._present.items() if _is_there(peer)}

    def tell(self, message: dict) -> None:
        """Tells all that are there."""
        self._present = {
            worker: peer for worker, peer in self._present.items() if peer.send(message)
        }

    def hear(self, server: socket.socket) -> None:
        """Takes in the next caller, if there is one."""
        try:
            link, _ = server.accept()
        except TimeoutError:
            return
        peer = Connection(link)
        try:
            hello = peer.receive(_HELLO_S) or {}
        except OSError:
            hello = {}
        if isinstance(hello.get(INDEX), int):
            self._welcome(peer, hello)
        else:
            peer.close()  # a port scan, or a health check

    def hang_up(self) -> None:
        """Ends all connections."""
        for peer in self._present.values():
            peer.close()

    def _welcome(self, peer: Connection, hello: dict) -> None:
        worker = hello[INDEX]
        before = self._present.get(worker)
        twice = before is not None and _is_there(before)
        self._present[worker] = peer
        self._came.add(worker)
        mistake = (
            f"two processes say that they are worker {worker}: give each its own index"
            if twice
            else ""
        )
        mistake = mistake or _difference(self.cluster, self._facts, hello)
        if mistake:
            if twice:
                before.send({MISTAKE: mistake})
            raise UserError(mistake)


def _is_there(peer: Connection) -> bool:
    """Whether the peer has not hung up; workers say nothing after their first message."""
    try:
        return peer.receive(0.0) is None
    except OSError:
        return False


def _difference(cluster: Cluster, facts: Mapping[str, str], hello: dict) -> str:
    """What the caller was told differently, in one line; empty where all is the same."""
    worker, theirs = hello[INDEX], hello.get(FACTS, {})
    if hello.get(ADDRESSES) != list(cluster.addresses):
        listed = ",".join(map(str, hello.get(ADDRESSES, ())))
        return f"worker {worker} was told the workers {listed}, worker 0 {','.join(cluster.addresses)}: give all the same list"
    for name in sorted({*facts, *theirs}):
        if facts.get(name) != theirs.get(name):
            return f"worker {worker} has {name}={theirs.get(name)}, worker 0 has {name}={facts.get(name)}: give all the same"
    return ""


# A worker's part of the roll call: it tells the chief that it is here, and waits to be told that
# all are.

_PAUSE_S = 0.2
_CONNECT_S = 5.0


def report_to_chief(cluster: Cluster, facts: Mapping[str, str], timeout: float) -> None:
    """Waits until the chief says that all workers are here.

    Raises:
      UserError: the chief says what is wrong, or is not there when the time is over.
    """
    deadline, reason, missing = time.monotonic() + timeout, "", [0]
    with open_own_port(cluster):  # no other process may take the port meanwhile
        while time.monotonic() < deadline:
            try:
                missing = _ask(cluster, facts, deadline)
            except OSError as error:
                missing, reason = [0], (error.strerror or str(error)).lower()
                time.sleep(_PAUSE_S)
            if not missing:
                return
    raise describe_missing(cluster, missing, timeout, reason if missing == [0] else "")


def _ask(cluster: Cluster, facts: Mapping[str, str], deadline: float) -> list[int]:
    """Who is missing when all are there, which is nobody, or when the time is over.

    Raises:
      OSError: the chief is not there, or not any more.
      UserError: it says what is wrong.
    """
    chief = cluster.addresses[0]
    seconds = min(_CONNECT_S, max(_PAUSE_S, deadline - time.monotonic()))
    link = socket.create_connection(
        (host_of(chief), port_of(chief, "the cluster")), timeout=seconds
    )
    with contextlib.closing(Connection(link)) as connection:
        hello = {ADDRESSES: cluster.addresses, FACTS: dict(facts)}
        connection.send({INDEX: cluster.index, **hello})
        missing = [0]
        while missing:
            message = connection.receive(deadline - time.monotonic())
            if message is None:
                break
            if MISTAKE in message:
                raise UserError(str(message[MISTAKE]))
            missing = message.get(MISSING, missing)
        return missing


# An end to the time that TensorFlow may take to reach other machines.

_WATCH = """
import os, select, signal, sys
process, seconds, message = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
if not select.select([0], [], [], seconds)[0]:
    print(message, file=sys.stderr, flush=True)
    os.kill(process, signal.SIGKILL)
"""


@contextlib.contextmanager
def exit_after(seconds: float, message: str) -> Iterator[None]:
    """Ends this process with a message if the block takes longer.

    TensorFlow 2.21 holds Python's lock and swallows SIGTERM while it waits for other workers, for up to an hour: neither a
    thread nor a signal's handler can end it, another process can. It ends by itself when this one does.
    """
    command = [
        sys.executable,
        "-S",
        "-c",
        _WATCH,
        str(os.getpid()),
        str(seconds),
        f"fv: error: {message}",
    ]
    watch = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        watch.stdin.close()
        watch.wait()


# From a cluster to its strategy: the roll call first, then TensorFlow, which has no end to its
# patience.

_GPUS = "number of GPUs"


def form_strategy(
    cluster: Cluster, gpus: int, facts: Mapping[str, str], timeout: float
) -> tf.distribute.Strategy:
    """Waits for all workers, and makes the strategy that trains on them; one worker alone opens no port.

    Args:
      cluster: the workers.
      gpus: GPUs of this worker, as many as any other's; with none it computes on its CPU.
      facts: what has to be the same for all workers, by name.
      timeout: seconds that a worker waits for the others.

    Raises:
      UserError: workers are missing when the time is over, or differ.
      WorkerLost: one has gone after all were there.
    """
    if cluster.size == 1:
        return _strategy(tf.train.ClusterSpec({}), "", 0, gpus)
    gather = report_to_chief if cluster.index else gather_workers
    gather(cluster, {_GPUS: str(gpus), **facts}, timeout)
    late = f"TensorFlow did not form the cluster within --startup_timeout={timeout:g} seconds: a worker has gone, run all again"
    try:
        with exit_after(timeout, late):
            return _strategy(
                tf.train.ClusterSpec({"worker": cluster.addresses}), "worker", cluster.index, gpus
            )
    except tf.errors.OpError as error:
        raise WorkerLost(late) from error


def _strategy(
    spec: tf.train.ClusterSpec, role: str, index: int, gpus: int
) -> tf.distribute.Strategy:
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec, task_type=role, task_id=index, num_accelerators={"GPU": gpus}, rpc_layer="grpc"
    )
    return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)


# What has to be the same for all workers of a run.

_OWN = ("--worker_index", "--tfrecords")  # a machine may have a copy of the shards of its own


def shared_flags(options: Any) -> dict[str, str]:
    """The flags of a run by name, but for those that are a worker's own.

    Args:
      options: an options dataclass (see `fv.options`).
    """
    flags = (line.partition("=") for line in fv_options.to_flagfile(options).splitlines())
    return {name: value for name, _, value in flags if name not in _OWN}
