"""The workers of a run, in the one form that every source of a cluster is turned into."""

import dataclasses
from collections.abc import Iterable

from fv.errors import UserError

_PORTS = range(1, 65536)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """All workers of a run and this process's place among them.

    Attributes:
      addresses: HOST:PORT of each worker; worker 0 is the chief.
      index: of this process's worker.
      local_index: of this process among the workers of its machine.
      local_count: workers on this process's machine that share its GPUs.
    """

    addresses: tuple[str, ...]
    index: int
    local_index: int = 0
    local_count: int = 1

    @property
    def size(self) -> int:
        """Number of workers."""
        return len(self.addresses)

    def check(self, origin: str) -> "Cluster":
        """Checks that the addresses are different and whole, and that this worker is one of them.

        Args:
          origin: where the cluster comes from, for messages.

        Raises:
          UserError: they are not.
        """
        for address in self.addresses:
            port_of(address, origin)
        twice = sorted({address for address in self.addresses if self.addresses.count(address) > 1})
        if twice:
            raise UserError(
                f"{origin} names {twice[0]} twice: give each worker a host or a port of its own"
            )
        if not 0 <= self.index < self.size:
            raise UserError(
                f"{origin} names {self.size} workers, 0 to {self.size - 1}, and this one is said to be {self.index}"
            )
        return self

    def describe(self, workers: Iterable[int]) -> str:
        """Names workers by number and address, for messages."""
        return ", ".join(f"worker {worker} ({self.addresses[worker]})" for worker in workers)


def host_of(address: str) -> str:
    """The host of HOST:PORT; an IPv6 address comes without its brackets."""
    return address.rpartition(":")[0].strip("[]")


def port_of(address: str, origin: str) -> int:
    """The port of HOST:PORT.

    Raises:
      UserError: it has none.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or int(port) not in _PORTS:
        raise UserError(
            f"{origin} has '{address}' where HOST:PORT is expected, such as 10.0.0.1:12345"
        )
    return int(port)
