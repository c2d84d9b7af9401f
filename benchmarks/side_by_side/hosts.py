"""Network namespaces that stand for hosts, each with an address of its own behind one bridge.

The bridge is in a namespace of its own as well, so the machine's network stays as it is. A
namespace ends with the process that holds it, and that one ends when this process does.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.side_by_side import delaying_switch

_BURST = "256kb"  # of a limited link: more than a frame of 64 KB, which a virtual link passes whole
_QUEUE = "20ms"
_JUMBO_BYTES = 9000


class Hosts:
    """Hosts that reach each other, and nothing else.

    Attributes:
      addresses: IPv4 address of each host.
    """

    def __init__(self, switch: int, hosts: list[int]):
        """Args:
        switch: process that holds the bridge's namespace.
        hosts: processes that hold the hosts' namespaces.
        """
        self._switch, self._hosts = switch, hosts
        self._namespaces = [_namespace_of(host) for host in hosts]
        self.addresses = [f"10.99.0.{place}" for place in range(1, len(hosts) + 1)]

    def plug_in(self) -> None:
        """Connects the hosts by a bridge."""
        _run(self._switch, "ip link add bridge type bridge")
        _run(self._switch, "ip link set bridge up")
        for place, host in enumerate(self._hosts):
            _run(self._switch, f"ip link add port{place} type veth peer name eth0 netns {host}")
            self.reconnect(place)
            self._configure(place)

    def plug_into_delay(self, seconds: float, stack: contextlib.ExitStack) -> None:
        """Connects the hosts by a program that holds each packet for so long."""
        command = [sys.executable, delaying_switch.__file__, str(seconds), *map(str, self._hosts)]
        stack.enter_context(_program(command))
        for place, host in enumerate(self._hosts):
            _run(host, f"ip link set eth0 mtu {_JUMBO_BYTES}")
            self._configure(place)

    def command(self, place: int, *command: str) -> list[str]:
        """A command line that runs a command on a host."""
        return [*_enter(self._hosts[place]), *command]

    def unplug(self, place: int) -> None:
        """Takes a host's carrier away, as a pulled cable does."""
        _run(self._switch, f"ip link set port{place} down")

    def silence(self, place: int) -> None:
        """Drops all packets from and to a host, which notices nothing, as a failing switch does."""
        _run(self._switch, f"ip link set port{place} nomaster")

    def reconnect(self, place: int) -> None:
        """Ends what `unplug` and `silence` do."""
        _run(self._switch, f"ip link set port{place} master bridge up")

    def limit(self, rate: str) -> None:
        """Limits what each host sends to a rate as `tc` takes it, such as '100mbit'."""
        for host in self._hosts:
            _run(
                host,
                f"tc qdisc replace dev eth0 root tbf rate {rate} burst {_BURST} latency {_QUEUE}",
            )

    def _configure(self, place: int) -> None:
        host = self._hosts[place]
        _run(host, "ip link set lo up")
        _run(host, f"ip address add {self.addresses[place]}/24 dev eth0")
        _run(host, "ip link set eth0 up")

    def sent_bytes(self, place: int) -> int:
        """Bytes that a host has sent, headers included."""
        lines = pathlib.Path(f"/proc/{self._hosts[place]}/net/dev").read_text().splitlines()
        (counts,) = (line.split(":")[1].split() for line in lines if "eth0:" in line)
        return int(counts[8])

    def kill_all(self) -> None:
        """Kills all processes that run on the hosts, also those that no longer have a parent."""
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            process = int(path.name)
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if process not in self._hosts and _namespace_of(process) in self._namespaces:
                    os.kill(process, signal.SIGKILL)


@contextlib.contextmanager
def connect(count: int, delay_s: float = 0.0) -> Iterator[Hosts]:
    """Makes so many hosts, which are gone after the block.

    Args:
      count: of the hosts.
      delay_s: seconds that each packet takes; 0 for a bridge, which takes next to none.

    Raises:
      OSError: this process may not make network namespaces; the text is `unshare`'s.
    """
    with contextlib.ExitStack() as stack:
        hold = ["unshare", "--net", "sh", "-c", "echo; exec cat"]
        switch, *hosts = (stack.enter_context(_program(hold)) for _ in range(count + 1))
        made = Hosts(switch, hosts)
        if delay_s:
            made.plug_into_delay(delay_s, stack)
        else:
            made.plug_in()
        yield made


@contextlib.contextmanager
def _program(command: list[str]) -> Iterator[int]:
    """The id of a process that has printed a line; it ends when its stdin is closed."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,  # Ctrl-C ends this process first, which tears down in order
    ) as running:
        assert running.stdout and running.stderr
        if not running.stdout.readline():
            raise OSError(running.stderr.read().strip())
        yield running.pid


def _namespace_of(process: int) -> str:
    return os.readlink(f"/proc/{process}/ns/net")


def _enter(process: int) -> list[str]:
    # `ip netns exec` would mount another /sys, which hides the control groups from slurmd.
    return ["nsenter", f"--net=/proc/{process}/ns/net"]


def _run(process: int, command: str) -> None:
    subprocess.run([*_enter(process), *command.split()], check=True)
