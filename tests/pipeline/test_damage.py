import dataclasses
import itertools
import pathlib
import shutil

import numpy as np
import pytest

from fv import record
from fv.errors import UserError
from fv.pipeline import damage, input_pipeline
from fv.pipeline.damage import DamagedRecords
from fv.pipeline.options import CACHES, InputOptions
from fv.pipeline.shards import ShardReader
from tests import samples
from tests.conftest import slow_case
from tests.pipeline.streams import pairs_of, source_of, stream

RECORDS = 64
HEAD = 12  # bytes before a record's data
LENIENT = InputOptions(max_bad_records=30)
CUT = samples.image_bytes(0, 0)[:500]
HARMS = ("length", "cut", "cut at a frame")


class Broken:
    """A copy of the shards, and what to break in its second training shard."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.path = sorted(folder.glob("train-*"))[1]

    @property
    def frames(self) -> list[tuple[int, bytes]]:
        with open(self.path, "rb") as file:
            return list(record.read_frames(file))

    def flip(self, offset: int) -> None:
        data = bytearray(self.path.read_bytes())
        data[offset] ^= 1
        self.path.write_bytes(data)

    def cut(self, size: int) -> None:
        self.path.write_bytes(self.path.read_bytes()[:size])

    def replace_image(self, number: int, image: bytes) -> None:
        """Frames the record anew, with valid checksums, around another image."""
        datas = [data for _, data in self.frames]
        datas[number] = record.encode_pair(
            record.decode_pair(datas[number]) | {record.IMAGE_B: image}
        )
        self.path.write_bytes(b"".join(map(record.frame, datas)))


@pytest.fixture
def broken(shards, tmp_path) -> Broken:
    return Broken(shutil.copytree(shards, tmp_path / "broken"))


def read(broken: Broken, pairs: int = RECORDS, **arguments) -> list[bytes]:
    source = source_of(broken.folder)
    arguments.setdefault("damaged", DamagedRecords(source.folder))
    with damage.name_damaged_record(source.folder, source.split.shards, arguments["damaged"]):
        return stream(source, pairs, **arguments)


def read_two_epochs(broken: Broken, allowed: int, cache: str) -> tuple[list[bytes], DamagedRecords]:
    """The pairs of two epochs in which so many records may be skipped, and their count."""
    damaged = DamagedRecords(str(broken.folder), allowed)
    options = InputOptions(max_bad_records=allowed, cache=cache)
    return read(broken, 2 * RECORDS, batch_size=4, damaged=damaged, options=options), damaged


def assert_named(error: pytest.ExceptionInfo, broken: Broken, place: str, reason: str) -> None:
    said = str(error.value)
    assert f"{broken.path}: record {place}: " in said and reason in said
    assert (
        f"python tools/inspect_tfrecords.py {broken.folder} " in said
        and "--max_bad_records" in said
        and "\n" not in said
    )


@pytest.mark.parametrize("decoder", ["host", "tensorflow"])
def test_a_flipped_bit_ends_reading_with_shard_record_and_byte(broken, decoder):
    offset = broken.frames[3][0]
    broken.flip(offset + HEAD + 50)
    with pytest.raises(UserError) as error:
        read(broken, options=InputOptions(decoder=decoder))
    assert_named(error, broken, f"3 at byte {offset}", "the data does not match its checksum")


def test_a_record_cut_short_ends_reading_with_its_place(broken):
    number, offset = len(broken.frames) - 1, broken.frames[-1][0]
    broken.cut(offset + 100)
    with pytest.raises(UserError) as error:
        read(broken)
    assert_named(error, broken, f"{number} at byte {offset}", "the file ends inside a record")


def read_cut_at_a_frame(broken: Broken, scheme: str, **arguments) -> str:
    """The error where the shard ends before its last two records, at the end of a frame."""
    number, offset = len(broken.frames) - 2, broken.frames[-2][0]
    broken.cut(offset)
    source = dataclasses.replace(source_of(broken.folder), folder=f"{scheme}{broken.folder}")
    with (
        pytest.raises(UserError) as error,
        damage.name_damaged_record(source.folder, source.split.shards, arguments.get("damaged")),
    ):
        stream(source, RECORDS, **arguments)
    said = str(error.value)
    assert (
        f"{scheme}{broken.path}: record {number} at byte {offset}: "
        "is missing: the file ends before it" in said
    )
    return said


def test_records_missing_at_a_shards_end_are_an_error_for_tensorflow(broken):
    assert "\n" not in read_cut_at_a_frame(broken, "", options=InputOptions(decoder="tensorflow"))


@pytest.mark.parametrize("cache", CACHES)
def test_records_missing_from_a_remote_shard_are_an_error(broken, cache):
    options, damaged = (
        InputOptions(max_bad_records=30, cache=cache),
        DamagedRecords(f"file://{broken.folder}", 30),
    )
    read_cut_at_a_frame(broken, "file://", options=options, damaged=damaged)


def test_records_missing_in_evaluation_by_several_workers_are_an_error(broken):
    broken.cut(broken.frames[-1][0])
    source = source_of(broken.folder)
    batches = input_pipeline.evaluation_batches(source, batch_size=4, worker=1, workers=2)
    with (
        pytest.raises(UserError, match="is missing: the file ends"),
        damage.name_damaged_record(source.folder, source.split.shards),
    ):
        list(batches)


@pytest.mark.parametrize("decoder", ["host", "tensorflow"])
def test_a_shard_that_is_gone_is_named(broken, decoder):
    broken.path.unlink()
    with pytest.raises(UserError) as error:
        read(broken, options=InputOptions(decoder=decoder))
    assert f"{broken.path}: record " in str(error.value) and "cannot be read (No such file" in str(
        error.value
    )


@pytest.mark.parametrize(
    ("options", "image"),
    [
        (InputOptions("host"), b"no image"),
        (InputOptions("tensorflow"), CUT),
        (InputOptions(cache="decoded"), CUT),
        slow_case(InputOptions("host"), CUT),
        slow_case(InputOptions("tensorflow"), b"no image"),
        slow_case(InputOptions(cache="decoded"), b"no image"),
    ],
)
def test_every_decoder_names_and_counts_an_image_that_does_not_decode(broken, options, image):
    broken.replace_image(2, image)
    damaged = DamagedRecords(str(broken.folder))
    with pytest.raises(UserError) as error:
        read(broken, options=options, damaged=damaged)
    assert_named(
        error, broken, f"2 at byte {broken.frames[2][0]}", "image_b/encoded is no whole JPEG"
    )
    assert damaged.count == 1 and damaged.error is error.value


@pytest.mark.parametrize("cache", ["none", "encoded", "decoded"])
def test_a_skipped_record_leaves_an_invalid_place_and_the_others_theirs(
    broken, shards, cache, capsys
):
    sound = stream(source_of(shards), 2 * RECORDS)
    broken.replace_image(2, b"no image")
    offsets = [offset for offset, _ in broken.frames]
    broken.flip(offsets[4] + HEAD + 50)
    found, damaged = read_two_epochs(broken, 2, cache)
    holes = [place for place, pair in enumerate(found) if not pair]
    assert len(holes) == 4 and damaged.count == 2  # two in each epoch, counted once
    assert all(pair in (b"", expected) for pair, expected in zip(found, sound, strict=True))
    said = capsys.readouterr().err
    assert (
        f"skipped {broken.path}: record 2 at byte {offsets[2]}: image_b/encoded is no whole JPEG"
        in said
    )
    assert f"skipped {broken.path}: record 4 at byte {offsets[4]}: the data does not" in said


def test_one_more_than_may_be_skipped_ends_reading(broken):
    offsets = [offset for offset, _ in broken.frames]
    for number in (1, 3, 4):
        broken.flip(offsets[number] + HEAD + 50)
    with pytest.raises(
        UserError, match=r"are damaged: 3 records, 2 allowed, the last .*: record \d at byte \d+"
    ):
        read(
            broken,
            options=InputOptions(max_bad_records=2),
            damaged=DamagedRecords(str(broken.folder), 2),
        )


@pytest.mark.parametrize(
    ("harm", "cache"),
    [
        case if case in list(zip(HARMS, CACHES, strict=True)) else slow_case(*case)
        for case in itertools.product(HARMS, CACHES)
    ],
)
def test_a_lost_length_takes_the_rest_of_its_shard_and_counts_all_of_it(
    broken, shards, harm, cache
):
    number = len(broken.frames) - 3
    offset = broken.frames[number][0]
    broken.flip(offset) if harm == "length" else broken.cut(offset + (100 if harm == "cut" else 0))
    found, damaged = read_two_epochs(broken, 30, cache)
    sound = stream(source_of(shards), 2 * RECORDS)
    assert damaged.count == 3 and found.count(b"") == 6  # three in each epoch
    assert all(pair in (b"", expected) for pair, expected in zip(found, sound, strict=True))


def test_a_shard_is_indexed_once_for_a_record_that_every_epoch_meets(broken):
    damaged, slices = (
        DamagedRecords(str(broken.folder), 1),
        source_of(broken.folder).worker_slices(0, 1),
    )
    reader = ShardReader(slices, damaged)
    reader.count_damaged(3, "harmed")
    broken.path.parent.rename(broken.folder.with_name("elsewhere"))
    reader.count_damaged(3, "harmed")
    assert damaged.count == 1


@pytest.mark.parametrize("workers", [1, 3])
def test_with_a_skipped_record_restarts_are_exact_and_workers_share_all(broken, shards, workers):
    broken.flip(broken.frames[1][0] + HEAD + 50)
    found = []
    for worker in range(workers):
        count = sum(each.take for each in source_of(shards).worker_slices(worker, workers))
        arguments = dict(worker=worker, workers=workers, options=LENIENT)
        pairs = read(broken, count, damaged=DamagedRecords(str(broken.folder), 30), **arguments)
        assert (
            read(
                broken,
                count - 7,
                damaged=DamagedRecords(str(broken.folder), 30),
                start_record=7,
                **arguments,
            )
            == pairs[7:]
        )
        found += pairs
    assert len(found) == RECORDS and found.count(b"") == 1
    assert set(found) - {b""} < set(stream(source_of(shards), RECORDS))


def test_the_place_of_a_skipped_record_holds_another_pair_s_pixels(broken):
    broken.replace_image(2, b"no image")
    arguments = dict(
        batch_size=RECORDS,
        seed=0,
        shuffle_buffer=4,
        options=LENIENT,
        damaged=DamagedRecords(str(broken.folder), 30),
    )
    batch = next(iter(input_pipeline.training_batches(source_of(broken.folder), **arguments)))
    valid, images = batch["valid"].numpy(), batch["images"].numpy()
    assert (~valid).sum() == 1
    np.testing.assert_array_equal(images[~valid][0], images[valid][0])


def test_evaluation_leaves_out_what_may_be_skipped(broken):
    broken.replace_image(2, b"no image")
    damaged = DamagedRecords(str(broken.folder), 1)
    batches = input_pipeline.evaluation_batches(
        source_of(broken.folder), batch_size=10, damaged=damaged
    )
    assert sum(bool(pair) for batch in batches for pair in pairs_of(batch)) == RECORDS - 1


def test_the_step_s_own_errors_pass_through(shards):
    source = source_of(shards)
    with (
        pytest.raises(ZeroDivisionError),
        damage.name_damaged_record(source.folder, source.split.shards),
    ):
        raise ZeroDivisionError
