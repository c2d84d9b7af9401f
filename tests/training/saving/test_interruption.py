import os
import signal
import subprocess
import sys
import time

import pytest

from fv.training.saving.interruption import Interruption

BUSY = """
import signal, sys, time
from fv.training.saving.interruption import Interruption
with Interruption() as interruption:
    print("ready", flush=True)
    time.sleep({seconds})
    print("requested" if interruption.requested else "not requested", flush=True)
"""


def wait_for(interruption: Interruption) -> None:
    deadline = time.monotonic() + 5.0
    while not interruption.requested and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_its_echo_is_not_a_second_one(number, capsys):
    with Interruption() as interruption:
        assert not interruption.requested
        for _ in range(3):
            os.kill(os.getpid(), number)
        wait_for(interruption)
        assert interruption.requested
    time.sleep(0.05)
    assert capsys.readouterr().err.count(number.name) == 1


def test_signals_belong_to_whom_they_did_before_once_it_ends():
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            wait_for(interruption)
        assert not heard
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_signal_leaves_at_once():
    process = subprocess.Popen([sys.executable, "-c", BUSY.format(seconds=30)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(1.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5.0) == 128 + signal.SIGTERM
    process.stdout.close()
