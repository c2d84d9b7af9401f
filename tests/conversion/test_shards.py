import contextlib
import os
import pathlib

import google_crc32c
import pandas as pd
import pytest

from fv import files, record
from fv.conversion import checking, output, shards
from fv.errors import UserError
from tests import dying
from tests.conversion import making


def test_every_split_has_as_many_pairs_to_a_shard():
    tables = {
        name: pd.DataFrame({"a": [0] * pairs, "b": [1] * pairs})
        for name, pairs in (("train", 1000), ("val", 130))
    }
    images = pd.DataFrame({"bytes": [10_000, 10_000]})
    assert shards.count_shards(tables, images, 10) == {"train": 10, "val": 2}
    assert shards.count_shards(tables, images, None) == {"train": 8, "val": 2}
    assert shards.count_shards(tables, images, 10**6) == {"train": 1000, "val": 130}


def test_default_shards_grow_with_the_bytes():
    images = pd.DataFrame({"bytes": [1 << 30, 1 << 30]})
    assert shards.count_shards(
        {"train": pd.DataFrame({"a": [0] * 20, "b": [1] * 20})}, images, None
    ) == {"train": 20}
    assert shards.count_shards(
        {"train": pd.DataFrame({"a": [0] * 900, "b": [1] * 900})}, images, None
    ) == {"train": 900}


@pytest.fixture
def planned(tmp_path):
    """Tasks for 7 pairs over 3 shards; the stored bytes of image 2 lie in a pack."""
    root, scratch, folder = (
        making.people(tmp_path / "images", a=2, b=2),
        tmp_path / "scratch",
        tmp_path / "out",
    )
    scratch.mkdir()
    folder.mkdir()
    paths = ["a/a_0001.jpg", "a/a_0002.jpg", "b/b_0001.jpg", "b/b_0002.jpg"]
    stored = [(root / path).read_bytes() for path in paths]
    stored[2] = making.jpeg(99)
    pathlib.Path(checking.pack_path(str(scratch), 2)).write_bytes(
        b"another" + stored[2] + b"and more"
    )
    images = pd.DataFrame({"path": paths, "identity": list("aabb"), "offset": [0, 0, ~7, 0]})
    images["bytes"], images["crc"] = list(map(len, stored)), list(map(google_crc32c.value, stored))
    table = pd.DataFrame(
        {"a": [0, 2, 0, 1, 3, 3, 2], "b": [1, 3, 2, 3, 0, 1, 1], "label": [1, 1, 0, 0, 0, 0, 0]}
    )
    return table, images, tuple(map(str, (root, scratch, folder)))


def test_shards_hold_every_pair_once_in_shuffled_order(planned):
    table, images, folders = planned
    found = []
    for task in shards.plan_split("val", table, images, 3, 0, folders):
        shard = shards.write_shard(task)
        with open(os.path.join(folders[2], shard.name), "rb") as file:
            pairs = [record.decode_pair(data) for _, data in record.read_frames(file)]
        assert (len(pairs), os.path.getsize(file.name)) == (shard.records, shard.bytes)
        found += pairs
    paths = [
        (pair[record.PATH_A].decode(), pair[record.PATH_B].decode(), pair[record.LABEL])
        for pair in found
    ]
    wanted = [(images["path"][a], images["path"][b], label) for a, b, label in table.to_numpy()]
    assert sorted(paths) == sorted(wanted) and paths != wanted


def test_a_normalised_image_is_read_from_its_pack_under_its_own_path(planned):
    table, images, folders = planned
    (task,) = shards.plan_split("val", table, images, 1, 0, folders)
    shard = shards.write_shard(task)
    with open(os.path.join(folders[2], shard.name), "rb") as file:
        pairs = [record.decode_pair(data) for _, data in record.read_frames(file)]
    normalised = [pair[record.IMAGE_A] for pair in pairs if pair[record.PATH_A] == b"b/b_0001.jpg"]
    assert normalised == [making.jpeg(99)] * 2


def test_shards_of_other_identities_are_other_shards(planned):
    table, images, folders = planned
    (one,) = shards.plan_split("val", table, images, 1, 0, folders)
    (other,) = shards.plan_split("val", table, images.assign(identity=list("aaaa")), 1, 0, folders)
    assert one.key() != other.key()


def test_an_image_that_vanished_is_named_and_no_shard_is_left(planned):
    table, images, folders = planned
    (task,) = shards.plan_split("val", table, images, 1, 0, folders)
    os.remove(os.path.join(folders[0], "a", "a_0001.jpg"))
    with pytest.raises(OSError, match="a_0001.jpg"):
        shards.write_shard(task)
    assert os.listdir(folders[2]) == []


def test_an_image_that_changed_since_it_was_checked_is_not_written(planned):
    table, images, folders = planned
    (task,) = shards.plan_split("val", table, images, 1, 0, folders)
    pathlib.Path(folders[0], "a", "a_0001.jpg").write_bytes(making.jpeg(1234))
    with pytest.raises(OSError, match=r"changed while it was converted.*a_0001.jpg"):
        shards.write_shard(task)
    assert os.listdir(folders[2]) == []


def test_a_whole_shard_of_the_same_task_is_not_written_twice(planned):
    table, images, folders = planned
    (task,) = shards.plan_split("val", table, images, 1, 0, folders)
    shard = shards.write_shard(task)
    path = pathlib.Path(folders[2], shard.name)
    before = path.stat()
    assert shards.write_shard(task) == shard
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("change", ["flip", "cut"])
def test_a_shard_that_was_changed_since_is_named_and_stays(planned, change):
    table, images, folders = planned
    (task,) = shards.plan_split("val", table, images, 1, 0, folders)
    path = pathlib.Path(folders[2], shards.write_shard(task).name)
    whole = path.read_bytes()
    changed = whole[:-1] if change == "cut" else whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]
    path.write_bytes(changed)
    with pytest.raises(UserError, match=f"changed since: {path.name}"):
        shards.write_shard(task)
    assert path.read_bytes() == changed
    path.unlink()
    shards.write_shard(task)
    assert path.read_bytes() == whole


def test_a_shard_of_another_task_is_written_again(planned):
    table, images, folders = planned
    (task,) = shards.plan_split("val", table, images, 1, 0, folders)
    path = pathlib.Path(folders[2], shards.write_shard(task).name)
    whole = path.read_bytes()
    (task,) = shards.plan_split("val", table.iloc[:-1], images, 1, 0, folders)
    shards.write_shard(task)
    assert path.read_bytes() != whole


@pytest.mark.parametrize("step", ["sha256", "fsync", "replace"])
def test_killed_anywhere_in_writing_a_shard_the_next_run_goes_on(planned, monkeypatch, step):
    table, images, folders = planned
    (task,) = shards.plan_split("val", table, images, 1, 0, folders)
    shards.write_shard(task)
    (other,) = shards.plan_split("val", table.iloc[:-1], images, 1, 0, folders)
    for kill_at in range(8):
        with monkeypatch.context() as patch:
            dying.die_at_call(patch, files if step == "sha256" else os, step, kill_at)
            with contextlib.suppress(KeyboardInterrupt):
                shards.write_shard(other)
    made = shards.write_shard(other)
    assert files.sha256(os.path.join(folders[2], made.name)) == made.sha256


def test_no_note_or_half_a_note_is_no_whole_shard(planned):
    table, images, folders = planned
    (task,) = shards.plan_split("val", table, images, 1, 0, folders)
    shard = shards.write_shard(task)
    assert output.count_noted(folders[2]) == 1
    note = pathlib.Path(folders[2], output.NOTES_FOLDER, f"{shard.name}.json")
    note.write_text(note.read_text()[:40])
    assert output.find_noted_shard(folders[2], shard.name, task.key()) is None
    output.forget_shards(folders[2])
    assert output.count_noted(folders[2]) == 0
    with pytest.raises(
        UserError, match=f"fv did not write, or that were changed since: {shard.name}"
    ):
        shards.write_shard(task)
    os.remove(os.path.join(folders[2], shard.name))
    assert shards.write_shard(task) == shard
