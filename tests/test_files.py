"""Tests of fv.files."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from fv import files
from fv.errors import UserError


def test_the_file_appears_only_when_the_block_ends(tmp_path):
    path = tmp_path / "report.txt"
    with files.atomic_open(str(path)) as file:
        file.write("größer")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "größer"
    assert os.listdir(tmp_path) == ["report.txt"]


def test_bytes_are_written_as_they_are(tmp_path):
    path = tmp_path / "shard"
    with files.atomic_open(str(path), "wb") as file:
        file.write(b"\r\n\xff")
    assert path.read_bytes() == b"\r\n\xff"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failing_block_leaves_the_old_file_and_nothing_beside_it(tmp_path, failure):
    path = tmp_path / "manifest.json"
    path.write_text("old")
    with pytest.raises(failure), files.atomic_open(str(path)) as file:
        file.write("half of the n")
        raise failure
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["manifest.json"]


def test_a_missing_folder_is_reported_as_such(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic_open(str(tmp_path / "missing" / "file")):
        pytest.fail("the block must not run")


def test_the_temporary_file_bears_the_suffix_that_others_skip(tmp_path):
    with files.atomic_open(str(tmp_path / "shard")):
        assert os.listdir(tmp_path) == [f"shard{files.TEMPORARY_SUFFIX}{os.getpid()}"]


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"auc": float("nan")}, "auc"),
        ({"folds": [{"accuracy": 1.0}, {"accuracy": float("inf")}]}, r"folds\.1\.accuracy"),
        ({"range": (0.0, -float("inf"))}, r"range\.1"),
    ],
)
def test_a_number_that_is_not_finite_is_not_written_and_its_key_is_named(tmp_path, content, key):
    path = tmp_path / "metrics.json"
    with pytest.raises(UserError, match=f"metrics.json was not written: {key} is no finite number"):
        files.save_json(content, str(path))
    assert os.listdir(tmp_path) == []
    with pytest.raises(UserError, match=f"^{key} is no finite number"):
        files.to_json(content)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_not_read(tmp_path, number):
    path = tmp_path / "metrics.json"
    path.write_text(f'{{"folds": [{{"accuracy": {number}}}], "auc": 0.5}}')
    with pytest.raises(UserError, match=f"metrics.json holds {number}, which is no number in JSON"):
        files.load_json(str(path))


def test_json_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(UserError, match="holds no JSON object"):
        files.load_json(str(tmp_path / "metrics.json"))


HOLD = """
import sys, time
from fv import files
with files.lock_folder(sys.argv[1], "busy"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_refused_while_it_is_held_and_gone_afterwards(tmp_path):
    with (
        files.lock_folder(str(tmp_path), "busy"),
        pytest.raises(UserError, match="another run"),
        files.lock_folder(str(tmp_path), "another run"),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_a_killed_process_leaves_no_lock_behind(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="busy"), files.lock_folder(str(tmp_path), "busy"):
        pass
    holder.kill()
    holder.wait()
    with files.lock_folder(str(tmp_path), "busy"):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS])
def test_a_disk_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, capsys, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with files.lock_folder(str(tmp_path), "busy"):
        assert "cannot be locked" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ask", [files.exists, files.is_folder, files.is_taken])
def test_a_disk_that_fails_is_not_an_empty_one(tmp_path, monkeypatch, ask):
    assert ask(str(tmp_path)) and not ask(str(tmp_path / "no"))
    (tmp_path / "a").write_text("")
    assert not ask(str(tmp_path / "a" / "b")) and not ask(200 * "long," * 20)

    def fail(path, **_):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)

    monkeypatch.setattr(os, "stat", fail)
    with pytest.raises(OSError, match="Stale file handle"):
        ask(str(tmp_path))


def test_a_broken_link_is_there_and_is_no_file(tmp_path):
    (tmp_path / "link").symlink_to("nothing")
    path = str(tmp_path / "link")
    assert files.is_taken(path) and not files.exists(path) and not files.is_file(path)
