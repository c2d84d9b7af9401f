import threading
import time

import pytest

from fv.manifest import Manifest
from fv.pipeline import host_decoder
from fv.pipeline.host_decoder import Calls

PROGRAM = """
import sys
from fv import quiet_tensorflow
from fv.pipeline import input_pipeline
from fv.pipeline.options import InputOptions
from tests.pipeline.streams import source_of
for options in InputOptions(), InputOptions(cache="decoded"), InputOptions(max_bad_records=1):
    arguments = dict(batch_size=64, seed=0, shuffle_buffer=8, options=options)
    batches = iter(input_pipeline.training_batches(source_of(sys.argv[1], image_size=200), **arguments))
    globals()[str(options)] = batches  # still there when the interpreter ends
    next(batches)
"""


def test_a_process_ends_though_its_pipelines_are_still_full(command, shards):
    assert command("-c", PROGRAM, shards).returncode == 0


def test_leaving_waits_for_running_calls_and_refuses_others():
    calls, ended = Calls(), []
    inside = threading.Event()

    def call():
        with calls:
            inside.set()
            time.sleep(0.2)
            ended.append(True)

    thread = threading.Thread(target=call)
    thread.start()
    inside.wait()
    calls.leave()
    assert ended
    with pytest.raises(RuntimeError, match="ending"), calls:
        pass
    thread.join()


@pytest.mark.parametrize(
    ("asked", "stored", "crop_fraction", "expected"),
    [
        (None, None, 1.0, 100),  # images of many sizes
        (None, 150, 1.0, 150),
        (None, 151, 1.0, 100),
        (None, 200, 0.6, 120),  # the centre square alone leaves the host
        (None, 64, 1.0, 64),
        (120, 64, 1.0, 120),
        (120, None, 1.0, 120),
    ],
)
def test_images_leave_the_host_as_they_are_stored_where_that_is_not_much_larger(
    asked, stored, crop_fraction, expected
):
    assert (
        host_decoder.choose_load_size(
            asked, Manifest(0, "", {}, image_side=stored), 100, crop_fraction
        )
        == expected
    )
