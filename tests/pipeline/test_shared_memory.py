import mmap
import os

import numpy as np
import pytest
import tensorflow as tf

from fv.pipeline.shared_memory import BatchMemory, SharedFile

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
    (one, first), (other, second) = memory.lend(), memory.lend()
    first[:], second[:] = 1, 2
    assert one != other and (read(file, one) == 1).all() and (read(file, other) == 2).all()


def test_a_slot_is_lent_again_when_the_last_array_over_it_is_gone(file):
    memory = BatchMemory(file, SHAPE)
    offset, array = memory.lend()
    part = array[1:, 5]
    del array
    assert memory.lend()[0] != offset  # and is back at once, since nothing holds that one
    del part
    assert memory.lend()[0] == offset


def test_tensorflow_takes_it_over_without_a_copy_and_holds_it_as_long_as_the_tensor_lives(file):
    memory = BatchMemory(file, SHAPE)
    lent = [memory.lend()]
    offset = lent[0][0]

    def take(number: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(lambda _: lent.pop()[1], [number], tf.uint8, stateful=False)

    batches = tf.data.Dataset.range(1).map(take)
    tensor = next(iter(batches))
    shared = mmap.mmap(file.descriptor, int(np.prod(SHAPE)), offset=offset)
    shared[0] = 7
    assert tensor[0, 0, 0] == 7
    assert memory.lend()[0] != offset


@pytest.mark.skipif(
    not hasattr(mmap, "MADV_REMOVE"), reason="Linux gives back a part of a file in memory"
)
def test_the_memory_goes_with_the_last_of_its_users(file):
    memory = BatchMemory(file, SHAPE)
    _, array = memory.lend()
    array[:] = 1
    assert os.fstat(file.descriptor).st_blocks > 0
    del memory
    assert array.sum() == array.size  # the loan outlives who gave it
    del array
    assert os.fstat(file.descriptor).st_blocks == 0
