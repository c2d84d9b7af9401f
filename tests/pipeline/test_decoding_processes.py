import mmap
import os
import pathlib
import signal
import subprocess
import sys
import time
from concurrent import futures

import numpy as np
import pytest
import tensorflow as tf

from fv import jpeg_loader, record
from fv.errors import UserError
from fv.pipeline.decoding_processes import UNDECODED, BatchMemory, DecodingProcesses, SharedFile
from tests import samples

SHAPE = (3, 100, 100)


@pytest.fixture
def file() -> SharedFile:
    return SharedFile()


def read(file: SharedFile, offset: int) -> np.ndarray:
    """What another process sees there."""
    return np.frombuffer(
        mmap.mmap(file.descriptor, int(np.prod(SHAPE)), offset=offset), np.uint8
    ).reshape(SHAPE)


def test_an_array_is_the_file_s_bytes_from_its_offset_on(file):
    memory = BatchMemory(file, SHAPE)
    (one, first), (other, second) = memory.acquire(), memory.acquire()
    first[:], second[:] = 1, 2
    assert one != other and (read(file, one) == 1).all() and (read(file, other) == 2).all()


def test_a_slot_is_lent_again_when_the_last_array_over_it_is_gone(file):
    memory = BatchMemory(file, SHAPE)
    offset, array = memory.acquire()
    part = array[1:, 5]
    del array
    assert memory.acquire()[0] != offset  # and is back at once, since nothing holds that one
    del part
    assert memory.acquire()[0] == offset


def test_a_tensor_shares_the_memory_without_a_copy_and_keeps_it(file):
    memory = BatchMemory(file, SHAPE)
    lent = [memory.acquire()]
    offset = lent[0][0]

    def take(number: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(lambda _: lent.pop()[1], [number], tf.uint8, stateful=False)

    batches = tf.data.Dataset.range(1).map(take)
    tensor = next(iter(batches))
    shared = mmap.mmap(file.descriptor, int(np.prod(SHAPE)), offset=offset)
    shared[0] = 7
    assert tensor[0, 0, 0] == 7
    assert memory.acquire()[0] != offset


@pytest.mark.skipif(
    not hasattr(mmap, "MADV_REMOVE"), reason="Linux gives back a part of a file in memory"
)
def test_the_memory_goes_with_the_last_of_its_users(file):
    memory = BatchMemory(file, SHAPE)
    _, array = memory.acquire()
    array[:] = 1
    assert os.fstat(file.descriptor).st_blocks > 0
    del memory
    assert array.sum() == array.size  # the loan outlives who gave it
    del array
    assert os.fstat(file.descriptor).st_blocks == 0


SIDE = 20
ORPHANS = """
import time
from fv.pipeline.decoding_processes import DecodingProcesses
processes = DecodingProcesses(2)
processes.decode(processes.batch_memory((1, 2, 8, 8, 3)), 1.0, [None])
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def processes() -> DecodingProcesses:
    return DecodingProcesses(1)


@pytest.fixture(scope="module")
def encoded() -> bytes:
    fields = dict.fromkeys(record.BYTES_FIELDS, b"x") | {record.LABEL: record.GENUINE}
    fields |= {record.IMAGE_A: samples.image_bytes(0, 0), record.IMAGE_B: samples.image_bytes(1, 0)}
    return record.encode_pair(
        fields | {record.IDENTITY_A: b"Ann", record.IDENTITY_B: "Zoë".encode()}
    )


def pixels(image: bytes) -> np.ndarray:
    result = np.empty((SIDE, SIDE, 3), np.uint8)
    jpeg_loader.load_into(image, 0.8, result)
    return result


def children_of(pid: int) -> list[int]:
    return [
        int(found)
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children")
        for found in task.read_text().split()
    ]


def wait_until(condition, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_a_record_and_a_place_in_a_shard_give_the_pixels_of_this_process(
    processes, encoded, tmp_path
):
    (tmp_path / "shard").write_bytes(record.frame(b"another") + record.frame(encoded))
    begin = len(record.frame(b"another"))
    place = (str(tmp_path / "shard"), begin, begin + len(record.frame(encoded)))
    images, answer = processes.decode(
        processes.batch_memory((2, 2, SIDE, SIDE, 3)), 0.8, [encoded, place]
    )
    assert answer == (bytes([record.GENUINE] * 2), [b"Ann", "Zoë".encode(), b"x", b"x"] * 2)
    for pair in images:
        np.testing.assert_array_equal(
            pair, [pixels(samples.image_bytes(0, 0)), pixels(samples.image_bytes(1, 0))]
        )


def test_what_it_cannot_decode_is_left_and_the_others_are_not(processes, encoded, tmp_path):
    broken = record.encode_pair(
        record.decode_pair(encoded) | {record.IMAGE_B: samples.image_bytes(0, 0)[:200]}
    )
    sources = [None, b"no record", (str(tmp_path / "missing"), 0, 100), broken, encoded]
    _, (labels, names) = processes.decode(
        processes.batch_memory((5, 2, SIDE, SIDE, 3)), 1.0, sources
    )
    assert np.frombuffer(labels, np.int8).tolist() == [UNDECODED] * 4 + [record.GENUINE]
    assert len(names) == 20 and names[-4:-2] == [b"Ann", "Zoë".encode()]


def test_a_task_waits_in_the_process_that_works_on_another(processes, encoded):
    memory = processes.batch_memory((1, 2, SIDE, SIDE, 3))
    with futures.ThreadPoolExecutor(8) as pool:  # more than may ask at once
        given = [
            pool.submit(processes.decode, memory, 0.8, [encoded if odd else None])
            for odd in (0, 1) * 20
        ]
    labels = [np.frombuffer(each.result()[1][0], np.int8).item() for each in given]
    assert labels == [UNDECODED, record.GENUINE] * 20


def test_it_imports_no_tensorflow():
    listed = "import sys, fv.pipeline.decoding_processes; print('tensorflow' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True).stdout
        == "False\n"
    )


@pytest.mark.skipif(
    not os.path.isdir("/proc/self/task"), reason="finds children where Linux lists them"
)
def test_a_process_that_dies_is_an_error_and_no_hang(encoded):
    processes = DecodingProcesses(1)
    memory = processes.batch_memory((1, 2, SIDE, SIDE, 3))
    processes.decode(memory, 1.0, [encoded])
    os.kill(children_of(processes.pid)[0], signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(
            UserError, match="a process that decodes images died, most often for want of memory"
        ):
            processes.decode(memory, 1.0, [encoded])


@pytest.mark.skipif(
    not os.path.isdir("/proc/self/task"), reason="finds children where Linux lists them"
)
def test_they_outlive_signals_to_the_whole_group_but_not_their_parent():
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "ready\n"
    (server,) = children_of(parent.pid)
    assert wait_until(lambda: len(children_of(server)) == 2)
    all_below = [server, *children_of(server)]
    for pid in all_below:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not any(map(is_running, all_below)))


def test_signals_to_the_group_do_not_end_a_process_that_still_starts(encoded):
    processes = DecodingProcesses(1)
    os.kill(processes.pid, signal.SIGTERM)
    os.kill(processes.pid, signal.SIGINT)
    memory = processes.batch_memory((1, 2, SIDE, SIDE, 3))
    _, (labels, _) = processes.decode(memory, 1.0, [encoded])
    assert list(labels) in ([0], [1])


def is_running(pid: int) -> bool:
    try:
        return "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
