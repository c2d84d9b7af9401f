import collections
import functools
import os

import pytest
from PIL import Image

from fv import cli, manifest, record
from fv.conversion import convert, inspection, options
from fv.errors import UserError
from tests import samples
from tests.conversion import making
from tools import inspect_tfrecords


@pytest.fixture
def shards(tmp_path):
    """A folder of shards of 30 training and as many test pairs of 12 people."""
    images = making.crowd(tmp_path / "images", identities=24, images=3)
    flags = dict(val_fraction=0.0, test_fraction=0.5, max_pairs_per_identity=2, shards=2, workers=1)
    convert.convert(
        options.ConvertOptions(images=str(images), output=str(tmp_path / "out"), **flags)
    )
    return tmp_path / "out"


def first_shard(folder):
    return folder / manifest.load(str(folder)).split("train").shards[0].name


def test_sound_shards_are_counted(shards):
    tallies, damage = inspection.inspect(str(shards))
    described = manifest.load(str(shards))
    assert damage == []
    for name, tally in tallies.items():
        split = described.split(name)
        assert (tally.genuine, tally.impostor, len(tally.images)) == (
            split.genuine,
            split.impostor,
            split.images,
        )
        assert 0 < tally.image_bytes < sum(shard.bytes for shard in split.shards)


def test_a_flipped_bit_is_named_with_its_record_and_byte(shards):
    path = first_shard(shards)
    with open(path, "rb") as file:
        offsets = [offset for offset, _ in record.read_frames(file)]
    data = bytearray(path.read_bytes())
    data[offsets[3] + 100] ^= 1
    path.write_bytes(data)
    _, damage = inspection.inspect(str(shards))
    assert damage == [
        f"{path}: record 3 at byte {offsets[3]}: the data does not match its checksum"
    ]


def test_a_shard_cut_short_is_named_with_its_record_and_byte(shards):
    path = first_shard(shards)
    with open(path, "rb") as file:
        offsets = [offset for offset, _ in record.read_frames(file)]
    os.truncate(path, offsets[-1] + 50)
    assert inspection.inspect(str(shards))[1] == [
        f"{path}: record {len(offsets) - 1} at byte {offsets[-1]}: the file ends inside a record"
    ]
    os.truncate(path, offsets[-1])
    assert inspection.inspect(str(shards))[1] == [
        f"{path}: record {len(offsets) - 1} at byte {offsets[-1]}: {record.MISSING}"
    ]


def test_a_record_beyond_those_of_the_manifest_is_named(shards):
    path = first_shard(shards)
    data = path.read_bytes()
    with open(path, "rb") as file:
        frames = list(record.read_frames(file))
    path.write_bytes(data + record.frame(frames[0][1]))
    assert inspection.inspect(str(shards))[1] == [
        f"{path}: record {len(frames)} at byte {len(data)}: "
        f"is beyond the {len(frames)} records of the manifest"
    ]


def test_a_missing_shard_is_named(shards):
    path = first_shard(shards)
    path.unlink()
    assert inspection.inspect(str(shards))[1] == [f"{path} is missing"]


def test_whole_records_that_are_not_the_manifests_are_found(shards):
    path = first_shard(shards)
    with open(path, "rb") as file:
        frames = [record.frame(data) for _, data in record.read_frames(file)]
    path.write_bytes(b"".join(frames[::-1]))
    assert "the checksums differ" in inspection.inspect(str(shards))[1][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({record.LABEL: 7}, "label is 7, neither 0 nor 1"),
        ({record.LABEL: 0, record.IDENTITY_B: None}, "label is 0, which the identities contradict"),
        ({record.IMAGE_B: b"GIF89a"}, "image_b/encoded is not a JPEG"),
        (
            {record.LABEL: 0, record.IDENTITY_A: b"stranger"},
            "image_a/identity is not an identity of the split",
        ),
    ],
)
def test_a_field_that_cannot_be_is_named(shards, change, message):
    path = first_shard(shards)
    with open(path, "rb") as file:
        pairs = [record.decode_pair(data) for _, data in record.read_frames(file)]
    pairs[2] |= {
        name: pairs[2][record.IDENTITY_A] if value is None else value
        for name, value in change.items()
    }
    path.write_bytes(b"".join(record.frame(record.encode_pair(pair)) for pair in pairs))
    (line,) = inspection.inspect(str(shards))[1]
    assert "record 2 at byte" in line and message in line


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no manifest\.json"):
        inspection.inspect(str(tmp_path))


def test_every_sound_record_is_visited_and_no_damaged_one(shards):
    path = first_shard(shards)
    visited = []
    tallies, _ = inspection.inspect(str(shards), [visited.append])
    assert len(visited) == sum(tally.pairs for tally in tallies.values())
    with open(path, "rb") as file:
        offsets = [offset for offset, _ in record.read_frames(file)]
    os.truncate(path, offsets[-1] + 50)
    fewer = []
    assert len(inspection.inspect(str(shards), [fewer.append])[1]) == 1
    assert len(fewer) == len(visited) - 1


def draw_sample(count, seed, records):
    taken = inspection.PairSample(count, seed)
    for number in range(records):
        taken.add({record.LABEL: number % 2, "number": number})
    return [pair["number"] for pair in taken.pairs()]


def test_half_of_the_sample_is_genuine_and_each_half_in_order():
    numbers = draw_sample(10, 0, 1000)
    assert [number % 2 for number in numbers] == [1] * 5 + [0] * 5
    assert numbers[:5] == sorted(numbers[:5]) and numbers[5:] == sorted(numbers[5:])


def test_the_seed_and_the_records_decide():
    assert draw_sample(10, 3, 500) == draw_sample(10, 3, 500) != draw_sample(10, 4, 500)


def test_every_record_is_as_likely():
    thirds = collections.Counter(
        number // 20 for seed in range(300) for number in draw_sample(6, seed, 60)
    )
    assert all(480 < thirds[third] < 720 for third in range(3))


def test_fewer_records_than_wanted_are_all_taken():
    assert draw_sample(24, 0, 6) == [1, 3, 5, 0, 2, 4]
    assert draw_sample(24, 0, 0) == []


@pytest.fixture
def inspect(call):
    def run() -> None:
        cli.run(inspect_tfrecords.main, inspect_tfrecords.Options, positional=["DIR"])

    return functools.partial(call, run)


@pytest.fixture(scope="module")
def sheet_shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "out"
    samples.write_shards(folder, {"train": 40, "val": 20})
    return folder


def test_a_sheet_of_pairs_is_drawn_the_same_each_time(inspect, sheet_shards, tmp_path):
    for name in ("a.png", "b.png"):
        done = inspect(f"--sheet={tmp_path / name}", sheet_shards)
        assert (done.returncode, done.stderr) == (0, "") and "drew 24 pairs" in done.stdout
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Image.open(tmp_path / "a.png").format == "PNG"


def test_a_damaged_shard_is_reported_beside_a_sheet_of_the_sound_pairs(
    inspect, sheet_shards, tmp_path
):
    first = sorted(sheet_shards.glob("train-*"))[0]
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    done = inspect(f"--sheet={tmp_path / 'a.png'}", sheet_shards)
    first.write_bytes(whole)
    assert (
        done.returncode == 2
        and f"{first.name}: record" in done.stderr
        and "drew 24 pairs" in done.stdout
    )


@pytest.mark.parametrize(
    ("path", "message"), [("a.jpg", "ends in .png"), ("no/a.png", "does not exist: make it first")]
)
def test_a_sheet_that_cannot_be_written_is_refused_at_once(
    inspect, sheet_shards, tmp_path, path, message
):
    done = inspect(f"--sheet={tmp_path / path}", sheet_shards)
    assert done.returncode == 2 and message in done.stderr and done.stdout == ""
