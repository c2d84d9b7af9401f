import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fv.training.saving.interruption import Interruption
from tests import waiting

BUSY = """
import signal, sys, time
from fv.training.saving.interruption import Interruption
with Interruption() as interruption:
    print("ready", flush=True)
    time.sleep({seconds})
    print("requested" if interruption.requested else "not requested", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_its_echo_is_not_a_second_one(number, capsys):
    threads = threading.active_count()
    with Interruption() as interruption:
        assert not interruption.requested
        for _ in range(3):
            os.kill(os.getpid(), number)
        waiting.until(lambda: interruption.requested)
    waiting.until(lambda: threading.active_count() <= threads)
    assert capsys.readouterr().err.count(number.name) == 1


def test_signals_belong_to_whom_they_did_before_once_it_ends():
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            waiting.until(lambda: interruption.requested)
        assert not heard
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_signal_leaves_at_once():
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", BUSY.format(seconds=30)], **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline().startswith("SIGTERM: saves and leaves")
        time.sleep(1.2)  # a second signal within one is taken for an echo
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15.0) == 128 + signal.SIGTERM
