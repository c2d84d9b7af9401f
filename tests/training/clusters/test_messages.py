import fcntl
import socket

import pytest

from fv.training.clusters.messages import Connection

BEYOND_SELECT = 1024  # select() takes file descriptors below this one


def test_messages_come_in_order_and_none_is_told_from_a_peer_that_has_gone():
    here, there = (Connection(link) for link in socket.socketpair())
    assert there.receive(0.0) is None
    assert there.receive(0.01) is None
    assert here.send({"index": 1}) and here.send({"index": 2})
    assert [there.receive(1.0), there.receive(0.0)] == [{"index": 1}, {"index": 2}]
    here.close()
    with pytest.raises(ConnectionError, match="hung up"):
        there.receive(1.0)
    there.close()


def test_a_process_that_has_a_thousand_files_open_is_heard_all_the_same():
    link, other = socket.socketpair()
    far = socket.socket(fileno=fcntl.fcntl(link.fileno(), fcntl.F_DUPFD, BEYOND_SELECT))
    with link, other, far:
        other.sendall(b'{"index": 1}\n')
        assert Connection(far).receive(1.0) == {"index": 1}
