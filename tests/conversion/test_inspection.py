import collections
import functools
import json
import os
import tarfile

import pytest
from PIL import Image

from fv import cli, manifest, record
from fv.conversion import convert, inspection, options, tar_shards
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


@pytest.fixture
def small_shards(tmp_path):
    """Shards of 8 training and 4 validation people, of 3 images each."""
    images = making.crowd(tmp_path / "images", 12, 3)
    given = dict(val_fraction=0.35, test_fraction=0, workers=1, seed=1)
    convert.convert(options.ConvertOptions(str(images), str(tmp_path / "out"), **given))
    return tmp_path / "out"


def export(small_shards, target):
    return inspect_tfrecords.main(inspect_tfrecords.Options(export=str(target)), str(small_shards))


def originals(folder):
    return {path.name: path.read_bytes() for path in (folder / "images").rglob("*.jpg")}


def test_folders_hold_every_image_once_by_split_and_person(small_shards, tmp_path):
    assert export(small_shards, tmp_path / "back") == 0
    written = sorted((tmp_path / "back").rglob("*.jpg"))
    assert {path.name: path.read_bytes() for path in written} == originals(tmp_path)
    assert all(path.name.startswith(f"{path.parent.name}_") for path in written)
    assert {path.parent.parent.name for path in written} == {"train", "val"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "images", "out"]


def test_tars_are_read_back_with_the_same_people(small_shards, tmp_path):
    assert export(small_shards, tmp_path / "back.tar") == 0
    paths = sorted(map(str, tmp_path.glob("back-*.tar")))
    assert [path.split("back-")[1] for path in paths] == ["train-00000.tar", "val-00000.tar"]
    catalog = tar_shards.list_images(paths)
    assert len(catalog.images) == 36 and catalog.unusable.empty
    assert catalog.images["identity"].nunique() == 12
    with tarfile.open(paths[0]) as tar:
        told = json.load(tar.extractfile("000000000.json"))
        data = tar.extractfile("000000000.jpg").read()
    assert data == (tmp_path / "images" / told["path"]).read_bytes()


def test_tars_are_cut_at_their_size(small_shards, tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "_TAR_BYTES", 10_000)
    export(small_shards, tmp_path / "back.tar")
    paths = sorted(tmp_path.glob("back-train-*.tar"))
    assert len(paths) > 2 and paths[1].name == "back-train-00001.tar"
    assert all(path.stat().st_size < 30_000 for path in paths)


@pytest.mark.parametrize("name", ["back", "back.tar"])
def test_damage_and_files_of_that_name_leave_nothing(small_shards, tmp_path, name):
    (tmp_path / "back").mkdir()
    (tmp_path / "back-test-00003.tar").write_bytes(b"mine")
    with pytest.raises(UserError, match=rf"--export=.*{name}: .*back.* is there already"):
        export(small_shards, tmp_path / name)
    shard = sorted(small_shards.glob("*.tfrecord"))[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    assert export(small_shards, tmp_path / "other") == cli.EXIT_ERROR
    assert not list(tmp_path.glob("other*"))


def test_names_from_a_record_stay_inside_the_folder(tmp_path):
    jpeg = making.jpeg()
    people = {"../a": "train", "": "train"}
    paths = ["../../up.jpg", "/etc/abs.png", "x/y.jpg", "x_y.jpg"]
    with inspection.ImageWriter(str(tmp_path / "back"), people) as writer:
        for path in paths:
            pair = {record.IMAGE_A: jpeg, record.IDENTITY_A: b"../a", record.PATH_A: path.encode()}
            other = {record.IMAGE_B: jpeg, record.IDENTITY_B: b"", record.PATH_B: b"b.jpg"}
            writer.add(pair | other)
        writer.publish()
    found = sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    )
    assert [name for name in found if "_x_y" not in name] == [
        "back/train/_.._a/_.._.._up.jpg",
        "back/train/_.._a/_etc_abs.png.jpg",
        "back/train/_.._a/x_y.jpg",
        "back/train/_/b.jpg",
    ]
    assert len(found) == 5
