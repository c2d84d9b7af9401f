import contextlib
import hashlib
import os
import pathlib

import google_crc32c
import pandas as pd
import pytest

from fv import files, manifest, ownership, record
from fv.conversion import checking, shards
from fv.errors import UserError
from tests import dying, samples
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
    assert shards.count_noted(folders[2]) == 1
    note = pathlib.Path(folders[2], shards.NOTES_FOLDER, f"{shard.name}.json")
    note.write_text(note.read_text()[:40])
    assert shards.find_noted_shard(folders[2], shard.name, task.key()) is None
    shards.forget_shards(folders[2])
    assert shards.count_noted(folders[2]) == 0
    with pytest.raises(
        UserError, match=f"fv did not write, or that were changed since: {shard.name}"
    ):
        shards.write_shard(task)
    os.remove(os.path.join(folders[2], shard.name))
    assert shards.write_shard(task) == shard


SHARD = "train-00000-of-00001.tfrecord"
FOREIGN = [
    SHARD,
    "test-00003-of-00009.tfrecord",
    "manifest.json",
    "report.html",
    "report.json",
    "left_out.csv",
]


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def claim_and_clear(
    folder: pathlib.Path, overwrite: bool = False, keep: tuple[str, ...] = ()
) -> None:
    with shards.claim_output(str(folder), overwrite):
        shards.clear_output(str(folder), keep)


def write_shard(folder: pathlib.Path, name: str, content: bytes = b"records") -> None:
    """A shard as a conversion that is not finished leaves it."""
    ownership.private_folder(str(folder))
    shard = manifest.Shard(name, 1, len(content), hashlib.sha256(content).hexdigest())
    shards.note_shard(str(folder), shard, "key")
    (folder / name).write_bytes(content)


@pytest.fixture
def finished(tmp_path) -> pathlib.Path:
    """A data set with all its reports, as this fv leaves it."""
    samples.write_shards(tmp_path / "finished", {"train": 8, "val": 8})
    for name in ("report.json", "report.html", "left_out.csv"):
        ownership.save_json({}, str(tmp_path / "finished" / name))
    return tmp_path / "finished"


def test_a_finished_data_set_is_refused_without_overwrite(finished):
    refused = pytest.raises(
        UserError, match="holds a finished data set: give another folder, or --overwrite"
    )
    with refused, shards.claim_output(str(finished), overwrite=False):
        pass
    with shards.claim_output(str(finished), overwrite=True):
        assert (finished / "manifest.json").exists()


def test_a_second_run_is_refused_while_the_first_is_writing(tmp_path):
    refused = pytest.raises(UserError, match="another conversion is writing")
    with (
        shards.claim_output(str(tmp_path), False),
        refused,
        shards.claim_output(str(tmp_path), False),
    ):
        pass
    with shards.claim_output(str(tmp_path), False):
        pass


def test_a_lock_file_that_holds_something_is_not_fvs(tmp_path):
    (tmp_path / files.LOCK_NAME).write_text("mine")
    with pytest.raises(UserError, match=r"is not a lock of fv, which is empty: rename it"):
        claim_and_clear(tmp_path)
    assert contents(tmp_path) == {files.LOCK_NAME: b"mine"}


def test_scratch_is_empty_at_the_start_and_gone_at_the_end(tmp_path):
    left = pathlib.Path(ownership.private_folder(str(tmp_path)), "scratch")
    left.mkdir()
    (left / "000000001.pack").write_bytes(b"x")
    with shards.claim_output(str(tmp_path), False) as scratch:
        assert scratch == str(left) and os.listdir(scratch) == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_fv_did_not_write_is_named_and_nothing_changes(tmp_path, name, overwrite):
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(
        UserError, match=f"files that fv did not write, or that were changed since: {name};"
    ):
        claim_and_clear(tmp_path, overwrite)
    assert contents(tmp_path) == {name: b"{}"}


def test_the_first_foreign_files_are_named_with_their_number(tmp_path):
    for index in range(5):
        (tmp_path / manifest.shard_name("train", index, 5)).write_bytes(b"x")
    with pytest.raises(
        UserError, match=r"train-00002-of-00005.tfrecord, … \(5 in all\); move them away"
    ):
        claim_and_clear(tmp_path)
    assert len(contents(tmp_path)) == 5


def test_folders_that_are_not_fvs_stay_whatever_they_are_called(tmp_path):
    for name in (".scratch/a", ".shards/b", "train-00000-of-00001.tfrecord.tmp-7/c", ".lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    claim_and_clear(tmp_path)
    assert contents(tmp_path) == before
    (tmp_path / ".fv").mkdir()
    (tmp_path / ".fv" / "scratch").write_text("mine")
    with pytest.raises(UserError, match=r"\.fv is not a folder that fv made"):
        claim_and_clear(tmp_path)
    assert contents(tmp_path) == before | {".fv/scratch": b"mine"}


def test_overwrite_removes_a_data_set_and_nothing_else(finished):
    (finished / "README.md").write_text("mine")
    (finished / "train.tfrecord").write_text("mine")
    claim_and_clear(finished, overwrite=True)
    assert [name for name in sorted(os.listdir(finished)) if name != ".fv"] == [
        "README.md",
        "train.tfrecord",
    ]


@pytest.mark.parametrize(
    "name", ["train-00001-of-00003.tfrecord", "manifest.json", "report.html", "left_out.csv"]
)
def test_what_was_changed_since_stops_overwriting(finished, name):
    content = bytearray((finished / name).read_bytes())
    content[0] ^= 1
    (finished / name).write_bytes(content)
    before = contents(finished)
    with pytest.raises(UserError, match=f"changed since: {name}"):
        claim_and_clear(finished, overwrite=True)
    assert contents(finished) == before


def test_killed_anywhere_in_clearing_the_next_run_clears_the_rest(finished, monkeypatch):
    kills = 0
    while kills < 20:
        with monkeypatch.context() as patch:
            dying.die_at_call(patch, shards.files, "remove", kills)
            try:
                claim_and_clear(finished, overwrite=True)
                break
            except KeyboardInterrupt:
                kills += 1
    assert os.listdir(finished) == [".fv"] and kills < 20


def test_killed_anywhere_in_clearing_a_run_without_overwrite_goes_on(tmp_path, monkeypatch):
    for kills in range(8):
        folder = tmp_path / str(kills)
        samples.write_shards(folder, {"train": 8, "val": 8})
        names = sorted(path.name for path in folder.glob("*.tfrecord"))
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            dying.die_at_call(patch, shards.files, "remove", kills)
            claim_and_clear(folder, overwrite=True)
        claim_and_clear(folder, overwrite=not kills, keep=names)
        claim_and_clear(folder, overwrite=not kills)
        assert os.listdir(folder) == [".fv"] or not os.listdir(folder)


def test_clear_keeps_the_shards_that_are_asked_for_and_their_notes(tmp_path):
    names = ["train-00000-of-00002.tfrecord", "train-00000-of-00003.tfrecord"]
    for name in names:
        write_shard(tmp_path, name)
    claim_and_clear(tmp_path, keep=(names[0],))
    assert sorted(os.listdir(tmp_path)) == [".fv", names[0]]
    assert list(shards.listed_shards(str(tmp_path))) == [names[0]]
    claim_and_clear(tmp_path)
    assert os.listdir(tmp_path) == []


def test_an_unfinished_shard_that_was_changed_since_is_not_removed(tmp_path):
    write_shard(tmp_path, SHARD)
    (tmp_path / SHARD).write_bytes(b"RECORDS")
    with pytest.raises(UserError, match=f"changed since: {SHARD}"):
        claim_and_clear(tmp_path)
    assert (tmp_path / SHARD).read_bytes() == b"RECORDS"
