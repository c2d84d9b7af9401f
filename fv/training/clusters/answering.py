"""A worker's part of the roll call: it tells the chief that it is here, and waits to be told that all are."""

import contextlib
import socket
import time
from collections.abc import Mapping

from fv.errors import UserError
from fv.training.clusters import roll_call
from fv.training.clusters.cluster import Cluster, host_of, port_of
from fv.training.clusters.messages import Connection

_PAUSE_S = 0.2
_CONNECT_S = 5.0


def answer(cluster: Cluster, facts: Mapping[str, str], timeout: float) -> None:
    """Waits until the chief says that all workers are here.

    Raises:
      UserError: the chief says what is wrong, or is not there when the time is over.
    """
    deadline, reason, missing = time.monotonic() + timeout, "", [0]
    with roll_call.listen(cluster):  # no other process may take the port meanwhile
        while time.monotonic() < deadline:
            try:
                missing = _ask(cluster, facts, deadline)
            except OSError as error:
                missing, reason = [0], (error.strerror or str(error)).lower()
                time.sleep(_PAUSE_S)
            if not missing:
                return
    raise roll_call.absence(cluster, missing, timeout, reason if missing == [0] else "")


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
        hello = {roll_call.ADDRESSES: cluster.addresses, roll_call.FACTS: dict(facts)}
        connection.send({roll_call.INDEX: cluster.index, **hello})
        missing = [0]
        while missing:
            message = connection.receive(deadline - time.monotonic())
            if message is None:
                break
            if roll_call.MISTAKE in message:
                raise UserError(str(message[roll_call.MISTAKE]))
            missing = message.get(roll_call.MISSING, missing)
        return missing
