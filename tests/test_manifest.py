import json
import shutil

import pytest

from fv import manifest, record
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


def test_images_are_listed_by_pair_and_read_from_their_place(shards):
    split = manifest.load(str(shards)).split("val")
    listed = list(manifest.list_images(str(shards), split.shards))
    stored = [
        pair
        for shard in split.shards
        for _, pair in record.read_records(
            str(shards / shard.name), shard.records, record.parse_pair
        )
    ]
    assert [label for label, _ in listed] == [pair.label for pair in stored]
    for (_, (first, second)), pair in zip(listed, stored, strict=True):
        names = (first.identity, second.identity, first.path, second.path)
        assert tuple(name.encode() for name in names) == pair.names
        assert (first.read(), second.read()) == pair.images


def test_listing_images_names_a_damaged_record(shards, tmp_path):
    folder = shutil.copytree(shards, tmp_path / "damaged")
    shard = manifest.load(str(folder)).split("val").shards[1]
    (folder / shard.name).write_bytes(b"no record")
    with pytest.raises(UserError, match=rf"are damaged: .*{shard.name}: record 0 at byte 0: "):
        list(manifest.list_images(str(folder), [shard]))
