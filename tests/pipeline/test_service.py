import collections
import dataclasses
import shutil
import signal
from collections.abc import Iterator

import pytest
import tensorflow as tf

from fv import record
from fv.errors import UserError
from fv.pipeline import damage
from fv.pipeline.options import InputOptions
from fv.pipeline.service import ServiceOptions, run_service
from fv.training.run import train
from tests import samples
from tests.pipeline import services
from tests.pipeline.services import drawn, drawn_once
from tests.pipeline.streams import source_of, stream

RECORDS = 600


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service") / "shards"
    samples.write_shards(folder, {"train": RECORDS}, shards=30)
    return folder


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a service in this process: processes of its own take 15 s of a core to start."""
    address, servers = services.in_this_process()
    yield address
    del servers


def test_a_training_run_takes_its_batches_from_the_service(tiny_run, address, tmp_path, capsys):
    options = dataclasses.replace(
        tiny_run, workdir=str(tmp_path / "run"), steps=10, input=InputOptions(data_service=address)
    )
    train(options)
    assert "step 10" in capsys.readouterr().out and (tmp_path / "run" / "checkpoints").is_dir()


@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_a_damaged_record_that_a_worker_meets_is_one_line_here(shards, address, tmp_path, harm):
    folder = shutil.copytree(shards, tmp_path / "broken")
    path = sorted(folder.glob("train-*"))[1]
    data = path.read_bytes()
    with open(path, "rb") as file:
        last = [offset for offset, _ in record.read_frames(file)][-1]
    path.write_bytes(
        data[:last]
        if harm == "cut"
        else data[: last + 50] + bytes([data[last + 50] ^ 1]) + data[last + 51 :]
    )
    source = source_of(folder)
    with (
        pytest.raises(UserError) as error,
        damage.name_damaged_record(source.folder, source.split.shards),
    ):
        collections.deque(drawn_once(source, address), maxlen=0)
    assert f"{path}: record " in str(error.value) and f" at byte {last}: " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_worker_that_joins_after_the_first_epoch_delivers_too(shards):
    source = source_of(shards)
    local = stream(source, source.split.pairs, options=InputOptions(decoder="tensorflow"))
    address, (_dispatcher, first) = services.in_this_process()
    pairs = drawn(source, address)
    for _ in range(2 * len(local)):
        next(pairs)
    _second = services.start_worker(address)
    first._stop()
    assert {next(pairs) for _ in range(3 * len(local))} == set(local)


@pytest.mark.slow
def test_the_service_deals_every_record_once_and_survives_a_lost_worker(
    many_shards,
):
    with services.running() as (address, dispatcher, (first, second)):
        check_service(many_shards, address, dispatcher, first, second)


def check_service(many_shards, address, dispatcher, first, second) -> None:
    source = source_of(many_shards)
    local = stream(source, RECORDS, options=InputOptions(decoder="tensorflow"))
    # Pixels, labels and indices of identities too.
    assert sorted(drawn_once(source, address)) == sorted(local)

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
        (
            ServiceOptions(role="worker", dispatcher="nowhere"),
            "--dispatcher=nowhere is no HOST:PORT",
        ),
    ],
)
def test_a_mistake_is_one_line(options, message):
    with pytest.raises(UserError, match=message):
        run_service(options)


def test_a_taken_port_is_refused():
    taken = tf.data.experimental.service.DispatchServer()
    port = int(taken.target.rpartition(":")[2])
    with pytest.raises(UserError, match=f"--port={port} cannot be listened on"):
        run_service(ServiceOptions(role="dispatcher", port=port))
