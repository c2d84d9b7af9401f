import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from fv import record
from fv.pipeline import decoders
from fv.pipeline.decoders import CallGuard

PROGRAM = """
import sys
from fv import quiet_tensorflow
from fv.pipeline import input_pipeline
from fv.pipeline.options import InputOptions
from tests.pipeline.streams import source_of
for options in InputOptions(), InputOptions(cache="decoded"), InputOptions(max_bad_records=1):
    arguments = dict(batch_size=64, seed=0, shuffle_buffer=8, options=options)
    source = source_of(sys.argv[1], image_size=200)
    batches = iter(input_pipeline.training_batches(source, **arguments))
    globals()[str(options)] = batches  # still there when the interpreter ends
    next(batches)
"""


def test_a_process_ends_though_its_pipelines_are_still_full(command, shards):
    assert command("-c", PROGRAM, shards).returncode == 0


def test_a_closed_guard_waits_for_running_calls_and_refuses_others():
    guard, ended = CallGuard(), []
    inside = threading.Event()

    def call():
        with guard:
            inside.set()
            time.sleep(0.2)
            ended.append(True)

    thread = threading.Thread(target=call)
    thread.start()
    inside.wait()
    guard.close()
    assert ended
    with pytest.raises(RuntimeError, match="ending"), guard:
        pass
    thread.join()


@pytest.mark.parametrize("names", [(), ("a", "Zoë", "b")])
def test_both_ways_of_indexing_identities_agree(names):
    asked = [b"a", "Zoë".encode(), b"stranger"]
    expected = decoders.identity_lookup(names)(tf.constant(asked)).numpy()
    found = record.identity_indexer(names)([*asked[:2], b"", b"", *asked[1:], b"", b""])
    np.testing.assert_array_equal(found, [*expected[:2], *expected[1:]])
    of_paths = record.identity_indexer(["x"], names)([b"", b"", *asked[:2]])
    np.testing.assert_array_equal(of_paths, expected[:2] if names else [-1, -1])
