"""Tests of fv.ownership."""

import contextlib
import hashlib
import itertools
import os
import pathlib

import pytest

from fv import files, ownership
from fv.errors import UserError
from tests import dying


def write(folder: pathlib.Path, **contents: str) -> None:
    with ownership.staged(str(folder), list(contents)) as staging:
        for name, content in contents.items():
            (pathlib.Path(staging) / name).write_text(content)


def test_what_fv_wrote_is_its_own_until_it_changes(tmp_path):
    write(tmp_path, figures="1")
    assert ownership.owns(str(tmp_path), "figures")
    write(tmp_path, figures="2")
    assert (tmp_path / "figures").read_text() == "2"
    (tmp_path / "figures").write_text("3")
    with pytest.raises(UserError, match="changed since: figures; move them away"):
        write(tmp_path, figures="4")
    assert (tmp_path / "figures").read_text() == "3"


@pytest.mark.parametrize("kind", ["file", "folder", "link", "broken link"])
def test_nothing_of_somebody_else_is_replaced_whatever_it_is(tmp_path, kind):
    (tmp_path / "mine").write_text("mine")
    path = tmp_path / "figures"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / ("mine" if kind == "link" else "nowhere"))
    with pytest.raises(UserError, match="did not write"):
        ownership.claim(str(tmp_path), ["figures"])
    with pytest.raises(UserError, match="did not write"):
        write(tmp_path, other="1", figures="1")
    assert sorted(os.listdir(tmp_path)) == ["figures", "mine"]
    with pytest.raises(UserError, match="did not write"):
        ownership.remove(str(tmp_path), ["figures"])


@pytest.mark.parametrize("step", ["replace", "makedirs", "fsync"])
def test_killed_between_any_two_steps_fv_knows_its_files_again(tmp_path, monkeypatch, step):
    write(tmp_path, one="old", two="old")
    for kill_at in range(8):
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            dying.die_at_call(patch, os, step, kill_at)
            write(tmp_path, one=f"{kill_at}", two=f"{kill_at}")
        ownership.claim(str(tmp_path), ["one", "two"])
    write(tmp_path, one="new", two="new")
    assert (tmp_path / "one").read_text() == (tmp_path / "two").read_text() == "new"


def test_of_two_that_write_a_file_at_once_either_may_come_last(tmp_path):
    path = tmp_path / "report"
    for content in ("old", "new"):
        with ownership.atomic_open(str(path)) as file:
            file.write(content)
    for mine, others in itertools.permutations((b"mine", b"others")):
        ownership.record_digests(str(tmp_path), {"report": hashlib.sha256(mine).hexdigest()})
        ownership.record_digests(str(tmp_path), {"report": hashlib.sha256(others).hexdigest()})
        for content in (others, mine):
            path.write_bytes(content)
            assert ownership.owns(str(tmp_path), "report")
    path.write_bytes(b"edited")
    assert not ownership.owns(str(tmp_path), "report")


def test_a_temporary_name_that_is_taken_is_left_alone(tmp_path):
    taken = tmp_path / f"figures.json{files.TEMPORARY_SUFFIX}{os.getpid()}"
    taken.write_text("mine")
    files.save_json({}, str(tmp_path / "figures.json"))
    assert taken.read_text() == "mine" and sorted(os.listdir(tmp_path)) == [
        "figures.json",
        taken.name,
    ]


def test_a_folder_of_fvs_name_that_is_not_fvs_is_refused_and_stays(tmp_path):
    (tmp_path / ".fv").mkdir()
    (tmp_path / ".fv" / "config").write_text("mine")
    with pytest.raises(UserError, match=r"\.fv is not a folder that fv made: rename it"):
        write(tmp_path, figures="1")
    ownership.remove_private(str(tmp_path), "config")
    ownership.remove_leftovers(str(tmp_path))
    assert (tmp_path / ".fv" / "config").read_text() == "mine" and os.listdir(tmp_path) == [".fv"]


def test_what_killed_processes_left_is_removed_and_live_ones_keep_theirs(tmp_path):
    with ownership.temporary_folder(str(tmp_path)) as own:
        private, name = os.path.split(own)
        dead, live = (
            os.path.join(private, name.replace(f"-{os.getpid()}-", f"-{pid}-"))
            for pid in (4194303, os.getppid())
        )
        for folder in (dead, live, f"{name}-of-another-kind", "writing-elsewhere-4194303-0"):
            os.makedirs(os.path.join(private, folder))
    assert not os.path.exists(dead) and len(os.listdir(private)) == 4


def test_an_output_that_is_an_input_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("")
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    with pytest.raises(
        UserError,
        match=r"--output=.*link\.csv is a file that this command reads: give another name",
    ):
        ownership.require_not_read(str(tmp_path / "link.csv"), "output", [str(tmp_path / "a.csv")])
    ownership.require_not_read(str(tmp_path / "b.csv"), "output", [str(tmp_path / "a.csv")])
    ownership.require_not_read(None, "output", [str(tmp_path / "a.csv")])
