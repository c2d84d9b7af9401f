import concurrent.futures
import contextlib
import fcntl
import socket
import subprocess
import sys
import time

import pytest

from benchmarks.side_by_side.ports import free_ports
from fv.errors import UserError
from fv.training import rendezvous
from fv.training.cluster import Cluster
from fv.training.rendezvous import Connection

BEYOND_SELECT = 1024  # select() takes file descriptors below this one


def test_messages_come_in_order_and_a_closed_peer_is_an_error():
    here, there = (Connection(link) for link in socket.socketpair())
    assert there.receive(0.0) is None
    assert there.receive(0.01) is None
    assert here.send({"index": 1}) and here.send({"index": 2})
    assert [there.receive(1.0), there.receive(0.0)] == [{"index": 1}, {"index": 2}]
    here.close()
    with pytest.raises(ConnectionError, match="hung up"):
        there.receive(1.0)
    there.close()


def test_a_socket_beyond_a_thousand_open_files_receives():
    link, other = socket.socketpair()
    far = socket.socket(fileno=fcntl.fcntl(link.fileno(), fcntl.F_DUPFD, BEYOND_SELECT))
    with link, other, far:
        other.sendall(b'{"index": 1}\n')
        assert Connection(far).receive(1.0) == {"index": 1}


def addresses(workers: int) -> tuple[str, ...]:
    return tuple(f"127.0.0.1:{port}" for port in free_ports(workers))


def split(address: str) -> tuple[str, int]:
    host, port = address.split(":")
    return host, int(port)


def gather(*workers: tuple[Cluster, dict[str, str], float]) -> list[str]:
    """What each worker says in the end, all at once: nothing, or what is wrong."""

    def one(cluster: Cluster, settings: dict[str, str], timeout: float) -> str:
        try:
            rendezvous.gather(cluster, settings, timeout)
        except UserError as error:
            return str(error)
        return ""

    with concurrent.futures.ThreadPoolExecutor(len(workers)) as pool:
        return [said.result() for said in [pool.submit(one, *worker) for worker in workers]]


def test_workers_that_are_all_there_continue_at_once():
    listed = addresses(3)
    began = time.monotonic()
    assert gather(*((Cluster(listed, index), {"--steps": "5"}, 20.0) for index in range(3))) == [
        "",
        "",
        "",
    ]
    assert time.monotonic() - began < 5


def test_all_workers_name_the_missing_one_and_give_up_in_time():
    listed = addresses(3)
    began = time.monotonic()
    said = gather((Cluster(listed, 0), {}, 1.5), (Cluster(listed, 1), {}, 1.5))
    assert time.monotonic() - began < 5
    for line in said:
        assert (
            f"within --startup_timeout=1.5 seconds, no answer from worker 2 ({listed[2]})" in line
        )
        assert "worker 1 (" not in line


def test_a_missing_chief_is_named_with_the_reason():
    listed = addresses(2)
    (said,) = gather((Cluster(listed, 1), {}, 1.0))
    assert f"no answer from worker 0 ({listed[0]}) (connection refused)" in said
    (said,) = gather((Cluster(("no-such-host.invalid:1234", listed[1]), 1), {}, 1.0))
    assert "worker 0 (no-such-host.invalid:1234) (" in said


def test_workers_with_different_flags_name_the_flag():
    listed = addresses(2)
    said = gather(
        (Cluster(listed, 0), {"--steps": "5"}, 20.0), (Cluster(listed, 1), {"--steps": "6"}, 20.0)
    )
    assert said == ["worker 1 has --steps=6, worker 0 has --steps=5: give all the same"] * 2


def test_workers_with_different_lists_are_refused():
    listed = addresses(3)
    said = gather(
        (Cluster(listed, 0), {}, 20.0), (Cluster((*listed[:2], "elsewhere:1"), 1), {}, 20.0)
    )
    assert all("worker 1 was told the workers" in line and "elsewhere:1" in line for line in said)


def test_two_workers_with_one_index_are_refused():
    listed = addresses(3)
    heard = []

    def pretend_to_be_worker_1_too() -> None:
        deadline = time.monotonic() + 10
        while not heard and time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(split(listed[0]), timeout=5) as link,
            ):
                twin = Connection(link)
                twin.send({"index": 1, "addresses": listed, "settings": {}})
                while message := twin.receive(10.0):
                    heard.extend([message["error"]] if "error" in message else [])

    with concurrent.futures.ThreadPoolExecutor() as pool:
        pool.submit(pretend_to_be_worker_1_too)
        said = gather((Cluster(listed, 0), {}, 20.0), (Cluster(listed, 1), {}, 20.0))
    line = "two processes say that they are worker 1: give each its own index"
    assert said == [line] * 2 and heard == [line]


def test_a_port_that_another_process_has_is_named():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        (said,) = gather((Cluster((f"127.0.0.1:{port}", "127.0.0.1:1"), 0), {}, 5.0))
    assert (
        f"port {port} of worker 0 (127.0.0.1:{port}) cannot be opened, another process has it"
        in said
    )


def test_strangers_at_the_port_do_no_harm():
    listed = addresses(2)

    def disturb() -> None:
        for data in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x00",
            b'{"index": 1, "addresses": []',
        ):
            for _ in range(50):
                try:
                    with socket.create_connection(split(listed[0]), timeout=5) as link:
                        link.sendall(data)
                    break
                except OSError:
                    time.sleep(0.1)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        chief = pool.submit(rendezvous.gather, Cluster(listed, 0), {}, 20.0)
        disturb()
        rendezvous.gather(Cluster(listed, 1), {}, 20.0)
        assert chief.result() is None


HANGING = """
import ctypes, os, signal
from fv import quiet_tensorflow
from fv.training import rendezvous
signal.signal(signal.SIGTERM, lambda *_: None)
with rendezvous.exit_after(0.5, "it took too long"):
    os.killpg(0, signal.SIGTERM)  # as Slurm does
    ctypes.PyDLL(None).sleep(60)  # holds Python's lock, as TensorFlow does
"""


def test_a_block_that_holds_pythons_lock_too_long_ends_the_process():
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGING],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == -9 and time.monotonic() - began < 20
    assert done.stderr == "fv: error: it took too long\n"


def test_a_block_that_ends_in_time_is_left_alone(capfd):
    with rendezvous.exit_after(1.0, "never said"):
        pass
    time.sleep(1.2)
    assert capfd.readouterr().err == ""
