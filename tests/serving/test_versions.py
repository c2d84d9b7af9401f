import multiprocessing
import os
import pathlib

import pytest

from fv.errors import UserError
from fv.serving import versions


def write(output, content: str = "model"):
    with versions.new_version(str(output)) as folder:
        pathlib.Path(folder, "saved_model.pb").write_text(content)


def names(output) -> list[str]:
    return sorted(path.name for path in output.iterdir())


def test_versions_count_up_from_the_highest_and_leave_nothing_else(tmp_path):
    write(tmp_path)
    write(tmp_path)
    (tmp_path / "7").mkdir()
    write(tmp_path)
    assert names(tmp_path) == ["1", "2", "7", "8"]


def test_a_block_that_fails_leaves_no_version(tmp_path):
    with pytest.raises(OSError, match="no space"), versions.new_version(str(tmp_path)) as folder:
        pathlib.Path(folder, "half").write_text("a")
        raise OSError("no space left on device")
    assert names(tmp_path) == []


def _die_half_way(output: str) -> None:
    with versions.new_version(output) as folder:
        pathlib.Path(folder, "half").write_text("a")
        os._exit(9)


def test_a_killed_process_leaves_no_version_and_the_next_one_clears_up(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_die_half_way, args=(str(tmp_path),))
    process.start()
    process.join()
    (left,) = names(tmp_path)
    assert not left.isdecimal() and versions.versions(str(tmp_path)) == []
    write(tmp_path)
    assert names(tmp_path) == ["1"]


def test_the_folder_of_a_process_that_still_writes_is_left_alone(tmp_path):
    theirs = tmp_path / f"writing-{os.getppid()}"
    theirs.mkdir()
    (tmp_path / "writing-notes").mkdir()
    write(tmp_path)
    assert theirs.exists() and (tmp_path / "writing-notes").exists()


def test_the_last_versions_are_kept(tmp_path):
    for _ in range(4):
        write(tmp_path)
    versions.remove_oldest(str(tmp_path), 0)
    assert len(names(tmp_path)) == 4
    versions.remove_oldest(str(tmp_path), 2)
    assert names(tmp_path) == ["3", "4"]


def test_the_highest_version_stands_for_the_folder_above(tmp_path):
    write(tmp_path)
    (tmp_path / "10").mkdir()
    assert versions.latest(str(tmp_path)) == str(tmp_path / "10")
    assert versions.latest(str(tmp_path / "1")) == str(tmp_path / "1")
    with pytest.raises(UserError, match="holds no SavedModel"):
        versions.latest(str(tmp_path / "2"))
