import collections
import dataclasses
import signal

import pytest
import tensorflow as tf

from fv.errors import UserError
from fv.pipeline.options import InputOptions
from fv.pipeline.service_process import ServiceOptions, serve
from fv.training.run import train
from tests import samples
from tests.pipeline import services
from tests.pipeline.services import drawn
from tests.pipeline.streams import source_of, stream

RECORDS = 600


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service") / "shards"
    samples.write_shards(folder, {"train": RECORDS}, shards=30)
    return folder


@pytest.fixture(scope="module")
def running():
    with services.running() as started:
        yield started


def test_a_training_run_takes_its_batches_from_the_service(tiny_run, running, tmp_path, capsys):
    address, *_ = running
    options = dataclasses.replace(
        tiny_run, workdir=str(tmp_path / "run"), steps=10, input=InputOptions(data_service=address)
    )
    train(options)
    assert "step 10" in capsys.readouterr().out and (tmp_path / "run" / "checkpoints").is_dir()


@pytest.mark.slow
def test_the_service_deals_every_record_once_goes_on_without_a_worker_and_stops_cleanly(many_shards, running):
    address, dispatcher, (first, second) = running
    source = source_of(many_shards)
    local = stream(source, RECORDS, options=InputOptions(decoder="tensorflow"))
    assert sorted(drawn(source, address, epochs=1)) == sorted(local)  # pixels, labels and indices of identities too

    pairs = drawn(source, address)
    before = [next(pairs) for _ in range(20)]
    first.send_signal(signal.SIGKILL)
    first.wait()
    counts = collections.Counter(before + [next(pairs) for _ in range(3 * RECORDS)])
    assert set(counts) == set(local)  # what the dead worker held comes in the next epoch
    assert max(counts.values()) <= 5  # in three epochs and the parts of two at either end
    for process in (second, dispatcher):
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0 and process.stderr.read() == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ServiceOptions(role="boss"), "--role=boss is neither"),
        (ServiceOptions(role="worker"), "--dispatcher=HOST:PORT belongs to --role=worker"),
        (ServiceOptions(role="worker", dispatcher="nowhere"), "--dispatcher=nowhere is no HOST:PORT"),
    ],
)
def test_a_mistake_is_one_line(options, message):
    with pytest.raises(UserError, match=message):
        serve(options)


def test_a_taken_port_is_refused():
    taken = tf.data.experimental.service.DispatchServer()
    port = int(taken.target.rpartition(":")[2])
    with pytest.raises(UserError, match=f"--port={port} cannot be listened on"):
        serve(ServiceOptions(role="dispatcher", port=port))
