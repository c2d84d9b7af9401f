"""What workers say to each other while they gather: JSON objects, one a line, over TCP."""

import json
import socket

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
        # A timeout of the socket's own: select() takes no file descriptor from 1,024 on, and a worker may have more open.
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
