import subprocess
import sys
import time

from fv.training.clusters import forming

HANGING = """
import ctypes
from fv.training.clusters import forming
with forming.bounded(0.5, "it took too long"):
    ctypes.PyDLL(None).sleep(60)  # holds Python's lock, as TensorFlow does
"""


def test_a_block_that_holds_pythons_lock_for_too_long_ends_the_process_with_a_line():
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGING], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9 and time.monotonic() - began < 20
    assert done.stderr == "fv: error: it took too long\n"


def test_a_block_that_ends_in_time_is_left_alone(capfd):
    with forming.bounded(1.0, "never said"):
        pass
    time.sleep(1.2)
    assert capfd.readouterr().err == ""
