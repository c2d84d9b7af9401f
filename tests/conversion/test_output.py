import contextlib
import hashlib
import os
import pathlib

import pytest

from fv import files, manifest, ownership
from fv.conversion import output
from fv.errors import UserError
from tests import dying, samples

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
    with output.claim_output(str(folder), overwrite):
        output.clear_output(str(folder), keep)


def write_shard(folder: pathlib.Path, name: str, content: bytes = b"records") -> None:
    """A shard as a conversion that is not finished leaves it."""
    ownership.private_folder(str(folder))
    shard = manifest.Shard(name, 1, len(content), hashlib.sha256(content).hexdigest())
    output.note_shard(str(folder), shard, "key")
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
    with refused, output.claim_output(str(finished), overwrite=False):
        pass
    with output.claim_output(str(finished), overwrite=True):
        assert (finished / "manifest.json").exists()


def test_a_second_run_is_refused_while_the_first_is_writing(tmp_path):
    refused = pytest.raises(UserError, match="another conversion is writing")
    with (
        output.claim_output(str(tmp_path), False),
        refused,
        output.claim_output(str(tmp_path), False),
    ):
        pass
    with output.claim_output(str(tmp_path), False):
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
    with output.claim_output(str(tmp_path), False) as scratch:
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
            dying.die_at_call(patch, output.files, "remove", kills)
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
            dying.die_at_call(patch, output.files, "remove", kills)
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
    assert list(output.listed_shards(str(tmp_path))) == [names[0]]
    claim_and_clear(tmp_path)
    assert os.listdir(tmp_path) == []


def test_an_unfinished_shard_that_was_changed_since_is_not_removed(tmp_path):
    write_shard(tmp_path, SHARD)
    (tmp_path / SHARD).write_bytes(b"RECORDS")
    with pytest.raises(UserError, match=f"changed since: {SHARD}"):
        claim_and_clear(tmp_path)
    assert (tmp_path / SHARD).read_bytes() == b"RECORDS"
