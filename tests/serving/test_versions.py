import json
import multiprocessing
import os
import pathlib
import subprocess

import pytest

from fv.errors import UserError
from fv.serving import contract, versions


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "variables" / "data").write_bytes(b"weights")
    versions.write_checksums(str(tmp_path))
    return tmp_path


def test_an_untouched_folder_passes_and_sha256sum_agrees(folder):
    versions.check_checksums(str(folder))
    done = subprocess.run(
        ["sha256sum", "--check", versions.FILE_NAME],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count(": OK") == 2


def test_a_changed_missing_or_added_file_is_named(folder):
    (folder / "variables" / "data").write_bytes(b"Weights")
    with pytest.raises(UserError, match="variables/data is not what fv.export wrote"):
        versions.check_checksums(str(folder))
    (folder / "variables" / "data").unlink()
    with pytest.raises(UserError, match="variables/data is missing"):
        versions.check_checksums(str(folder))
    (folder / "saved_model.cpb").write_bytes(b"loaded in place of the graph")
    with pytest.raises(UserError, match=r"saved_model\.cpb is no file of this export"):
        versions.check_checksums(str(folder))


def test_hidden_files_of_a_file_system_are_passed_over(folder):
    (folder / ".DS_Store").write_bytes(b"")
    versions.check_checksums(str(folder))


def test_damaged_checksums_are_named(folder):
    (folder / versions.FILE_NAME).write_text("nonsense\n")
    with pytest.raises(UserError, match="SHA256SUMS is damaged"):
        versions.check_checksums(str(folder))


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


def test_a_killed_process_leaves_no_version_and_the_next_tidies_up(tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=_die_half_way, args=(str(tmp_path),)
    )
    process.start()
    process.join()
    assert names(tmp_path) == [".fv"] and versions.list_versions(str(tmp_path)) == []
    write(tmp_path)
    assert names(tmp_path) == ["1"]


def test_folders_that_bear_the_names_of_killed_exports_are_left_alone(tmp_path):
    for name in (f"writing-{os.getppid()}", "writing-4194303", "removing-4194303", "writing-notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    write(tmp_path)
    assert [len(list(path.iterdir())) for path in tmp_path.glob("*-*")] == [1] * 4


def test_the_folder_of_a_process_that_still_writes_is_left_alone(tmp_path):
    with versions.new_version(str(tmp_path)) as folder:
        theirs = pathlib.Path(folder.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
        theirs.mkdir()
        pathlib.Path(folder, "saved_model.pb").touch()
    assert theirs.exists() and (tmp_path / "1").exists()


def write_export(output) -> pathlib.Path:
    """A version with what marks it as fv's; returns its folder."""
    with versions.new_version(str(output)) as folder:
        pathlib.Path(folder, "saved_model.pb").write_text("model")
        pathlib.Path(folder, "assets").mkdir()
        pathlib.Path(folder, "model_card.json").write_text(
            json.dumps(dict.fromkeys(contract.CARD_KEYS))
        )
        versions.write_checksums(folder)
    return output / str(versions.list_versions(str(output))[-1])


def test_the_last_versions_are_kept(tmp_path, capsys):
    for _ in range(4):
        write_export(tmp_path)
    versions.remove_oldest(str(tmp_path), 0)
    assert len(names(tmp_path)) == 4
    versions.remove_oldest(str(tmp_path), 2)
    assert names(tmp_path) == ["3", "4"] and capsys.readouterr().err == ""


def test_folders_that_are_no_exports_are_kept_named_and_not_counted(tmp_path, capsys):
    for _ in range(3):
        write_export(tmp_path)
    for name in ("4", "2024"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "holiday.jpg").touch()
    (tmp_path / "2024" / "model_card.json").write_text("{}")
    (tmp_path / "2024" / "SHA256SUMS").touch()
    write_export(tmp_path)
    versions.remove_oldest(str(tmp_path), 2)
    assert names(tmp_path) == ["2024", "2025", "3", "4"]
    said = f"--keep=2 leaves in {tmp_path}: 4/ (no export of fv)\n"
    assert capsys.readouterr().err == said and (tmp_path / "4" / "holiday.jpg").exists()
    versions.remove_oldest(str(tmp_path), 1)
    assert names(tmp_path) == ["2024", "2025", "4"]
    assert "4/ (no export of fv), 2024/ (no export of fv)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change", ["saved_model.pb", "notes.txt", ".notes", "assets/labels.txt", "SHA256SUMS"]
)
def test_a_changed_export_is_kept_and_the_change_is_named(tmp_path, capsys, change):
    folder = write_export(tmp_path)
    (folder / change).write_text("mine")
    write_export(tmp_path)
    versions.remove_oldest(str(tmp_path), 1)
    assert names(tmp_path) == ["1", "2"] and (folder / change).read_text() == "mine"
    assert f"1/ ({change} was " in capsys.readouterr().err


def test_the_highest_version_stands_for_the_folder_above(tmp_path):
    write(tmp_path)
    (tmp_path / "10").mkdir()
    assert versions.latest_version(str(tmp_path)) == str(tmp_path / "10")
    assert versions.latest_version(str(tmp_path / "1")) == str(tmp_path / "1")
    with pytest.raises(UserError, match="holds no SavedModel"):
        versions.latest_version(str(tmp_path / "2"))
