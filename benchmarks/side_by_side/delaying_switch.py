"""Passes packets between network namespaces after a delay, for kernels without netem.

python delaying_switch.py SECONDS PROCESS...

Makes the device eth0 in the namespace of each process. The host at place i, from 0, has an IPv4
address that ends in i + 1. Prints a line when it is ready, and ends when its stdin is closed.
"""

import collections
import ctypes
import fcntl
import os
import select
import struct
import sys
import time

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_LARGEST_PACKET = 1 << 16
_LAST_BYTE_OF_TARGET = 19  # in an IPv4 packet
_STDIN = 0


def main(delay: float, processes: list[int]) -> None:
    """Runs the switch; `delay` is of one direction, in seconds."""
    devices = [_open_device(process) for process in processes]
    print("ready", flush=True)
    held: collections.deque[tuple[float, int, bytes]] = collections.deque()  # (due, device, packet)
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        ready = select.select([_STDIN, *devices], [], [], wait)[0]
        if _STDIN in ready:
            return
        now = time.monotonic()
        for device in ready:
            packet = os.read(device, _LARGEST_PACKET)
            if packet[0] >> 4 == 4:  # IPv6 asks for routers that are not there
                target = devices[packet[_LAST_BYTE_OF_TARGET] - 1]
                held.append((now + delay, target, packet))
        while held and held[0][0] <= now:
            _, target, packet = held.popleft()
            os.write(target, packet)


def _open_device(process: int) -> int:
    with open(f"/proc/{process}/ns/net") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"eth0", _IFF_TUN | _IFF_NO_PI))
    return device


if __name__ == "__main__":
    main(float(sys.argv[1]), [int(process) for process in sys.argv[2:]])
