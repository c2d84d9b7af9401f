import json
import tarfile

import pytest

from fv import cli, record
from fv.conversion import convert, image_export, options, tar_shards
from fv.errors import UserError
from tests.conversion import making
from tools import inspect_tfrecords


@pytest.fixture
def shards(tmp_path):
    """Shards of 8 training and 4 validation people, of 3 images each."""
    images = making.crowd(tmp_path / "images", 12, 3)
    given = dict(val_fraction=0.35, test_fraction=0, workers=1, seed=1)
    convert.convert(options.ConvertOptions(str(images), str(tmp_path / "out"), **given))
    return tmp_path / "out"


def export(shards, target):
    return inspect_tfrecords.main(inspect_tfrecords.Options(export=str(target)), str(shards))


def originals(folder):
    return {path.name: path.read_bytes() for path in (folder / "images").rglob("*.jpg")}


def test_folders_hold_every_image_once_by_split_and_person(shards, tmp_path):
    assert export(shards, tmp_path / "back") == 0
    written = sorted((tmp_path / "back").rglob("*.jpg"))
    assert {path.name: path.read_bytes() for path in written} == originals(tmp_path)
    assert all(path.name.startswith(f"{path.parent.name}_") for path in written)
    assert {path.parent.parent.name for path in written} == {"train", "val"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "images", "out"]


def test_tars_are_read_back_with_the_same_people(shards, tmp_path):
    assert export(shards, tmp_path / "back.tar") == 0
    paths = sorted(map(str, tmp_path.glob("back-*.tar")))
    assert [path.split("back-")[1] for path in paths] == ["train-00000.tar", "val-00000.tar"]
    catalog = tar_shards.list_images(paths)
    assert len(catalog.images) == 36 and catalog.unusable.empty
    assert catalog.images["identity"].nunique() == 12
    with tarfile.open(paths[0]) as tar:
        told = json.load(tar.extractfile("000000000.json"))
        data = tar.extractfile("000000000.jpg").read()
    assert data == (tmp_path / "images" / told["path"]).read_bytes()


def test_tars_are_cut_at_their_size(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(image_export, "_TAR_BYTES", 10_000)
    export(shards, tmp_path / "back.tar")
    paths = sorted(tmp_path.glob("back-train-*.tar"))
    assert len(paths) > 2 and paths[1].name == "back-train-00001.tar"
    assert all(path.stat().st_size < 30_000 for path in paths)


@pytest.mark.parametrize("name", ["back", "back.tar"])
def test_damage_and_files_of_that_name_leave_nothing(shards, tmp_path, name):
    (tmp_path / "back").mkdir()
    (tmp_path / "back-test-00003.tar").write_bytes(b"mine")
    with pytest.raises(UserError, match=rf"--export=.*{name}: .*back.* is there already"):
        export(shards, tmp_path / name)
    shard = sorted(shards.glob("*.tfrecord"))[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    assert export(shards, tmp_path / "other") == cli.EXIT_ERROR
    assert not list(tmp_path.glob("other*"))


def test_names_from_a_record_stay_inside_the_folder(tmp_path):
    jpeg = making.jpeg()
    people = {"../a": "train", "": "train"}
    paths = ["../../up.jpg", "/etc/abs.png", "x/y.jpg", "x_y.jpg"]
    with image_export.ImageWriter(str(tmp_path / "back"), people) as writer:
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
