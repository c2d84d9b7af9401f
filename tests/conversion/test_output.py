import os

import pytest

from fv import manifest
from fv.conversion import output, written
from fv.errors import UserError


def test_a_finished_data_set_is_refused_without_overwrite(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    finished = pytest.raises(UserError, match="holds a finished data set: give another folder, or --overwrite")
    with finished, output.claim(str(tmp_path), overwrite=False):
        pass
    with output.claim(str(tmp_path), overwrite=True):
        assert (tmp_path / "manifest.json").exists()


def test_a_second_run_is_refused_while_the_first_is_writing(tmp_path):
    refused = pytest.raises(UserError, match="another conversion is writing")
    with output.claim(str(tmp_path), False), refused, output.claim(str(tmp_path), False):
        pass
    with output.claim(str(tmp_path), False):
        pass


def test_scratch_is_empty_at_the_start_and_gone_at_the_end(tmp_path):
    left = tmp_path / output.SCRATCH
    left.mkdir()
    (left / "000000001.jpg").write_bytes(b"x")
    with output.claim(str(tmp_path), False) as scratch:
        assert os.listdir(scratch) == []
    assert not left.exists()


def test_clear_removes_what_the_converter_made_and_nothing_else(tmp_path):
    ours = ["train-00000-of-00002.tfrecord", "val-00000-of-00001.tfrecord.tmp-123", "manifest.json", "left_out.csv"]
    ours += ["report.json", "report.html"]
    theirs = ["README.md", "train.tfrecord", "notes-00000-of-00001.tfrecord", "manifest.json.bak"]
    for name in ours + theirs:
        (tmp_path / name).write_bytes(b"x")
    output.clear(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(theirs)


def test_clear_keeps_the_shards_that_are_asked_for_and_their_notes(tmp_path):
    for name in ("train-00000-of-00002.tfrecord", "train-00000-of-00003.tfrecord", "manifest.json"):
        (tmp_path / name).write_bytes(b"x")
    written.note(str(tmp_path), manifest.Shard("train-00000-of-00002.tfrecord", 1, 1, "00"), "key")
    output.clear(str(tmp_path), keep=["train-00000-of-00002.tfrecord"])
    assert sorted(os.listdir(tmp_path)) == [written.FOLDER, "train-00000-of-00002.tfrecord"]
    output.clear(str(tmp_path))
    assert os.listdir(tmp_path) == []
