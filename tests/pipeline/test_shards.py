import errno
import os
import pathlib
import shutil
from concurrent import futures

import pytest

from fv import record
from fv.errors import TemporaryError, UserError
from fv.manifest import Manifest, Shard, Split
from fv.pipeline import shards
from fv.pipeline.damage import DamagedRecords
from fv.pipeline.shards import PairSource, ShardReader, Slice

SHARDS, RECORDS = 100, 40


def source_of(*records: int) -> PairSource:
    parts = [Shard(f"s{index}", count, 0, "") for index, count in enumerate(records)]
    return PairSource("d", Split(0, sum(records), 0, (), tuple(parts)), 32, 1.0)


@pytest.mark.parametrize("records", [(10,), (3, 7), (1, 1, 1, 7), (40, 2, 5, 9, 100, 3)])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_every_record_is_read_once_and_counts_differ_by_at_most_one(records, workers):
    source = source_of(*records)
    per_worker = [source.worker_slices(worker, workers) for worker in range(workers)]
    read = sorted(
        (each.path, each.skip + i) for own in per_worker for each in own for i in range(each.take)
    )
    assert read == sorted((f"d/s{n}", i) for n, count in enumerate(records) for i in range(count))
    counts = [shards.count_records(own) for own in per_worker]
    assert max(counts) - min(counts) <= 1


def test_fewer_records_than_workers_is_refused():
    with pytest.raises(UserError, match="2 pairs for 3 input workers"):
        source_of(2).worker_slices(0, 3)


@pytest.mark.parametrize(
    ("requested", "stored", "crop_fraction", "expected"),
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
def test_images_leave_the_host_as_stored_unless_much_larger(
    requested, stored, crop_fraction, expected
):
    assert (
        shards.choose_load_size(
            requested, Manifest(0, "", {}, image_side=stored), 100, crop_fraction
        )
        == expected
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> list[pathlib.Path]:
    """Shards of records that differ in bytes and in length."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(SHARDS):
        data = b"".join(record.frame(content(shard, number)) for number in range(RECORDS))
        (folder / f"{shard:03d}").write_bytes(data)
    return sorted(folder.iterdir())


def content(shard: int, number: int) -> bytes:
    return f"{shard} {number} ".encode() * (1 + (7 * shard + number) % 50)


def reader_of(paths: list[pathlib.Path], allowed: int = 0, skip: int = 0) -> ShardReader:
    return ShardReader(
        [Slice(str(path), skip, RECORDS - skip) for path in paths],
        DamagedRecords("folder", allowed),
    )


@pytest.fixture
def lone(written, tmp_path) -> pathlib.Path:
    """A shard that a test may harm."""
    return shutil.copy(written[0], tmp_path / "shard")


def test_records_come_by_their_index_in_any_order_to_many_threads(written):
    reader = reader_of(written)
    indices = [(index * 1009) % (SHARDS * RECORDS) for index in range(SHARDS * RECORDS)]
    with futures.ThreadPoolExecutor(8) as threads:
        found = list(threads.map(reader.read, indices))
    assert found == [content(*divmod(index, RECORDS)) for index in indices]


def test_a_slice_begins_behind_the_records_of_another_worker(written):
    reader = reader_of(written[:2], skip=30)
    assert [reader.read(9), reader.read(10)] == [content(0, 39), content(1, 30)]


@pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="counts open files where Linux lists them"
)
def test_few_shards_are_open_at_one_time_and_none_when_the_reader_is_gone(written):
    before, reader = len(os.listdir("/proc/self/fd")), reader_of(written)
    for shard in range(SHARDS):
        reader.read(shard * RECORDS)
    assert len(os.listdir("/proc/self/fd")) - before == 64
    del reader
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_shard_that_is_cut_short_while_it_is_read_is_named(lone):
    reader = reader_of([lone])
    begin = len(b"".join(record.frame(content(0, number)) for number in range(39)))
    assert reader.read(0) == content(0, 0)
    os.truncate(lone, begin + 20)
    with pytest.raises(
        UserError, match=f"shard: record 39 at byte {begin}: the file ends inside a record"
    ):
        reader.read(39)


def test_a_shard_that_is_written_over_while_it_is_read_is_named(lone):
    reader = reader_of([lone])
    assert reader.read(0) == content(0, 0)
    with open(lone, "r+b") as file:
        file.write(os.urandom(2000))
    with pytest.raises(
        UserError, match="shard: record 1 at byte 20: the data does not match its checksum"
    ):
        reader.read(1)


def test_a_shard_that_is_gone_is_named_and_its_records_may_be_skipped(lone):
    os.remove(lone)
    with pytest.raises(
        UserError, match="shard: record 0 at byte 0: cannot be read .No such file or directory"
    ):
        reader_of([lone]).read(0)
    assert reader_of([lone], allowed=1).read(0) is None


@pytest.mark.parametrize(
    ("cut", "reason", "behind"),
    [
        (20, "is missing: the file ends before it", "is missing: the file ends before it"),
        (25, "the file ends inside a record's length", "lies behind a record whose length is lost"),
        (35, "the file ends inside a record", "is missing: the file ends before it"),
    ],
)
def test_what_is_lost_is_said_of_every_record(lone, cut, reason, behind, capsys):
    os.truncate(lone, cut)
    reader = reader_of([lone], allowed=2)
    assert [reader.read(index) for index in range(3)] == [content(0, 0), None, None]
    assert [line.split(": ", 1)[1] for line in capsys.readouterr().err.splitlines()] == [
        f"record 1 at byte 20: {reason} (1 of at most 2)",
        f"record 2 at byte {20 if cut < 35 else 44}: {behind} (2 of at most 2)",
    ]


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ESTALE, TemporaryError), (errno.EACCES, UserError)]
)
def test_a_disk_that_fails_or_refuses_damages_no_record(lone, monkeypatch, code, kind):
    reader = reader_of([lone], allowed=RECORDS)

    def fail(*_):
        raise OSError(code, os.strerror(code), str(lone))

    monkeypatch.setattr(reader._frames, "read", fail)
    with pytest.raises(kind, match=f"^{os.strerror(code)}: {lone}$"):
        reader.read(3)
    assert reader.damaged.count == 0 and isinstance(reader.damaged.error, kind)
