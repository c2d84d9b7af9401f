"""All workers gather before TensorFlow starts, so that what is missing or different is said by name and in time.

TensorFlow 2.21 waits for an hour where a worker is missing, says nothing, and cannot be interrupted meanwhile. Here the
chief listens on its own port (`calling`), and each worker tells it its number and its flags (`answering`), and hears who is
missing until nobody is.
"""

import contextlib
import errno
import socket
from collections.abc import Iterable

from fv.errors import UserError
from fv.training.clusters.cluster import Cluster, port_of

MISSING = "missing"  # to a worker: who is missing; nobody: go
MISTAKE = "mistake"  # to a worker: what is wrong, in one line
INDEX, ADDRESSES, FACTS = (
    "index",
    "addresses",
    "facts",
)  # to the chief: who calls, and what it was told


def listen(cluster: Cluster) -> socket.socket:
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


def absence(
    cluster: Cluster, missing: Iterable[int], timeout: float, reason: str = ""
) -> UserError:
    """What is said where workers are missing when the time is over."""
    who = cluster.describe(missing) + (f" ({reason})" if reason else "")
    late = f"the cluster did not form within --startup_timeout={timeout:g} seconds"
    return UserError(
        f"{late}, no answer from {who}: start them all, or check addresses, names and firewalls"
    )
