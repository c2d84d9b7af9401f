import subprocess

import pytest

from fv.errors import UserError
from fv.serving import checksums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "variables" / "data").write_bytes(b"weights")
    checksums.write(str(tmp_path))
    return tmp_path


def test_an_untouched_folder_passes_and_sha256sum_agrees(folder):
    checksums.check(str(folder))
    done = subprocess.run(
        ["sha256sum", "--check", checksums.FILE_NAME],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count(": OK") == 2


def test_a_changed_missing_or_added_file_is_named(folder):
    (folder / "variables" / "data").write_bytes(b"Weights")
    with pytest.raises(UserError, match="variables/data is not what fv.export wrote"):
        checksums.check(str(folder))
    (folder / "variables" / "data").unlink()
    with pytest.raises(UserError, match="variables/data is missing"):
        checksums.check(str(folder))
    (folder / "saved_model.cpb").write_bytes(b"loaded in place of the graph")
    with pytest.raises(UserError, match=r"saved_model\.cpb is no file of this export"):
        checksums.check(str(folder))


def test_hidden_files_of_a_file_system_are_passed_over(folder):
    (folder / ".DS_Store").write_bytes(b"")
    checksums.check(str(folder))


def test_damaged_checksums_are_named(folder):
    (folder / checksums.FILE_NAME).write_text("nonsense\n")
    with pytest.raises(UserError, match="SHA256SUMS is damaged"):
        checksums.check(str(folder))
