import json

import pytest

from fv import manifest
from fv.errors import UserError


@pytest.fixture
def saved(tmp_path):
    """A folder with a manifest of one shard of 5 bytes, and the manifest."""
    shard = manifest.Shard(manifest.shard_name("train", 0, 1), records=2, bytes=5, sha256="00")
    (tmp_path / shard.name).write_bytes(b"12345")
    split = manifest.Split(
        genuine=1, impostor=1, images=3, identities=("a", "Zoë"), shards=(shard,)
    )
    made = manifest.Manifest(seed=7, flags="--seed=7\n", splits={"train": split})
    manifest.save(made, str(tmp_path))
    return tmp_path, made


def test_what_was_saved_is_loaded(saved):
    folder, made = saved
    assert manifest.load(str(folder)) == made


def test_a_split_is_given_by_name_and_a_missing_one_refused(saved):
    _, made = saved
    assert made.split("train").pairs == 2
    with pytest.raises(UserError, match="no 'val' pairs, only train"):
        made.split("val")


def test_a_shard_cut_short_is_named_with_both_sizes(saved):
    folder, _ = saved
    (folder / "train-00000-of-00001.tfrecord").write_bytes(b"123")
    with pytest.raises(
        UserError, match="train-00000-of-00001.tfrecord has 3 bytes where manifest.json says 5"
    ):
        manifest.load(str(folder))
    assert manifest.read(str(folder)).seed == 7


def test_a_missing_shard_is_named(saved):
    folder, _ = saved
    (folder / "train-00000-of-00001.tfrecord").unlink()
    with pytest.raises(UserError, match="train-00000-of-00001.tfrecord is missing"):
        manifest.load(str(folder))


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no manifest.json"):
        manifest.load(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"schema_version": 1}',
        '{"schema_version": 1, "splits": {"train": {}}}',
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / manifest.FILE_NAME).write_text(text)
    with pytest.raises(UserError, match="is not a manifest of fv"):
        manifest.load(str(tmp_path))


def test_another_schema_is_refused(saved):
    folder, _ = saved
    fields = json.loads((folder / manifest.FILE_NAME).read_text())
    (folder / manifest.FILE_NAME).write_text(json.dumps({**fields, "schema_version": 2}))
    with pytest.raises(UserError, match="has schema 2, this fv reads 1"):
        manifest.load(str(folder))
