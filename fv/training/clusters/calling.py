"""The chief's part of the roll call: it hears who comes, and tells all who is missing."""

import socket
import sys
import time
from collections.abc import Mapping

from fv.errors import UserError
from fv.training.clusters import roll_call
from fv.training.clusters.cluster import Cluster
from fv.training.clusters.messages import Connection

_QUIET_S = 10.0  # after which the chief says for whom it waits
_ROUND_S = 0.2
_HELLO_S = 2.0  # a caller that says nothing for so long is no worker


def call(cluster: Cluster, facts: Mapping[str, str], timeout: float) -> None:
    """Waits until all workers have said that they are here, and tells them to go on.

    Raises:
      UserError: workers are missing when the time is over, or disagree; all that are there are told the same.
    """
    chief = _Chief(cluster, facts)
    with roll_call.listen(cluster) as server:
        try:
            _wait(chief, server, timeout)
        except UserError as error:
            chief.tell({roll_call.MISTAKE: str(error)})
            raise
        finally:
            chief.hang_up()


def _wait(chief: "_Chief", server: socket.socket, timeout: float) -> None:
    began, told = time.monotonic(), False
    server.settimeout(_ROUND_S)
    while chief.missing():
        waited = time.monotonic() - began
        if waited > timeout:
            raise roll_call.absence(chief.cluster, chief.never_came() or chief.missing(), timeout)
        if waited > _QUIET_S and not told:
            told = True
            print(
                f"waits for {chief.cluster.describe(chief.missing())}", file=sys.stderr, flush=True
            )
        chief.hear(server)
        chief.drop_gone()
        chief.tell({roll_call.MISSING: chief.missing()})


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
        if isinstance(hello.get(roll_call.INDEX), int):
            self._welcome(peer, hello)
        else:
            peer.close()  # a port scan, or a health check

    def hang_up(self) -> None:
        """Ends all connections."""
        for peer in self._present.values():
            peer.close()

    def _welcome(self, peer: Connection, hello: dict) -> None:
        worker = hello[roll_call.INDEX]
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
                before.send({roll_call.MISTAKE: mistake})
            raise UserError(mistake)


def _is_there(peer: Connection) -> bool:
    """Whether the peer has not hung up; workers say nothing after their first message."""
    try:
        return peer.receive(0.0) is None
    except OSError:
        return False


def _difference(cluster: Cluster, facts: Mapping[str, str], hello: dict) -> str:
    """What the caller was told differently, in one line; empty where all is the same."""
    worker, theirs = hello[roll_call.INDEX], hello.get(roll_call.FACTS, {})
    if hello.get(roll_call.ADDRESSES) != list(cluster.addresses):
        listed = ",".join(map(str, hello.get(roll_call.ADDRESSES, ())))
        return f"worker {worker} was told the workers {listed}, worker 0 {','.join(cluster.addresses)}: give all the same list"
    for name in sorted({*facts, *theirs}):
        if facts.get(name) != theirs.get(name):
            return f"worker {worker} has {name}={theirs.get(name)}, worker 0 has {name}={facts.get(name)}: give all the same"
    return ""
