"""Ports that nothing listens on."""

import socket


def free_ports(count: int) -> list[int]:
    """Different free ports of this machine."""
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("localhost", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
