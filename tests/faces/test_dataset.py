"""Tests of fv.faces.dataset, fv.faces.ledger and tools/make_faces.py: folders of faces."""

import dataclasses
import json
import os
import pathlib
import platform
import subprocess
import sys

import pytest
from PIL import Image

from fv import ownership
from fv.errors import UserError
from fv.faces import contact_sheet, dataset, ledger

ROOT = pathlib.Path(__file__).parents[2]
SMALL = dict(identities=3, images_per_identity=2, seed=4, image_size=32, workers=1)


def _write(folder, **changes):
    options = dataset.FacesOptions(output=str(folder), **(SMALL | changes))
    return dataset.write_dataset(options)


def _contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))
    }


def test_every_person_has_a_folder_of_rgb_jpegs(tmp_path):
    _write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        "person_00000",
        "person_00001",
        "person_00002",
    ]
    assert len(_contents(tmp_path)) == 6
    with Image.open(tmp_path / "person_00001" / "0001.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 32))


def test_the_number_of_workers_does_not_change_a_byte(tmp_path):
    _write(tmp_path / "one", identities=40, workers=1)
    _write(tmp_path / "two", identities=40, workers=2)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "two")


def test_adding_people_and_images_leaves_the_others_unchanged(tmp_path):
    _write(tmp_path)
    before = _contents(tmp_path)
    assert _write(tmp_path, identities=4, images_per_identity=3) == 4 * 3 - 6
    assert _contents(tmp_path).items() > before.items()


def test_two_seeds_differ(tmp_path):
    _write(tmp_path / "first")
    _write(tmp_path / "second", seed=5)
    first, second = _contents(tmp_path / "first"), _contents(tmp_path / "second")
    assert not set(first.values()) & set(second.values())


def test_an_interrupted_run_completes_to_the_same_bytes(tmp_path):
    _write(tmp_path)
    whole = _contents(tmp_path)
    (tmp_path / "person_00001" / "0001.jpg").unlink()
    partial = pathlib.Path(
        ownership.private(str(tmp_path)), f"writing-{platform.node()}-4194303-0", "0001.jpg"
    )
    partial.parent.mkdir()
    partial.write_bytes(b"half")
    assert _write(tmp_path) == 1
    assert _contents(tmp_path) == whole
    assert not (tmp_path / ".fv").exists()


def test_a_run_that_fails_halfway_is_finished_by_the_next(tmp_path, monkeypatch):
    _write(tmp_path / "whole")
    draw, drawn = dataset.render_jpeg, []

    def fail_on_the_fourth(*arguments):
        drawn.append(arguments)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return draw(*arguments)

    monkeypatch.setattr(dataset, "render_jpeg", fail_on_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path / "cut")
    assert _write(tmp_path / "cut") == 3
    assert _contents(tmp_path / "cut") == _contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "change", [dict(seed=9), dict(image_size=48), dict(identities=2), dict(images_per_identity=1)]
)
def test_faces_made_otherwise_are_refused(tmp_path, change):
    _write(tmp_path)
    with pytest.raises(UserError, match="--overwrite"):
        _write(tmp_path, **change)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="empty folder"):
        _write(tmp_path, overwrite=True)


def test_overwrite_removes_what_it_made_and_nothing_else(tmp_path):
    _write(tmp_path)
    (tmp_path / "person_00002" / "note.txt").write_text("mine")
    _write(tmp_path, seed=9, identities=1, overwrite=True)
    assert sorted(_contents(tmp_path)) == [
        os.path.join("person_00000", name) for name in ("0000.jpg", "0001.jpg")
    ]
    assert (tmp_path / "person_00002" / "note.txt").read_text() == "mine"
    assert ledger.read(str(tmp_path)).seed == 9


def test_overwrite_removes_no_image_that_make_faces_did_not_draw(tmp_path):
    _write(tmp_path)
    (tmp_path / "person_00001" / "0000.jpg").write_bytes(b"mine")
    (tmp_path / "person_00001" / "0001.jpg.tmp-9").write_bytes(b"mine")
    before = _contents(tmp_path)
    with pytest.raises(UserError, match=r"changed since: person_00001/0000\.jpg; move them away"):
        _write(tmp_path, seed=9, overwrite=True)
    assert _contents(tmp_path) == before and ledger.read(str(tmp_path)).seed == SMALL["seed"]
    (tmp_path / "person_00001" / "0000.jpg").unlink()
    assert _write(tmp_path, seed=9, identities=1, overwrite=True) == 2
    assert os.listdir(tmp_path / "person_00001") == ["0001.jpg.tmp-9"]


def test_faces_of_another_renderer_are_not_removed(tmp_path):
    _write(tmp_path)
    settings = dataclasses.replace(ledger.read(str(tmp_path)), renderer=ledger.RENDERER + 1)
    (tmp_path / ledger.FILE_NAME).write_text(json.dumps(dataclasses.asdict(settings)))
    with pytest.raises(UserError, match="holds faces of another fv"):
        _write(tmp_path, overwrite=True)
    assert len(_contents(tmp_path)) == 6


def test_a_contact_sheet_is_not_drawn_over_an_image(tmp_path):
    sheet = str(tmp_path / "person_00001" / "0001.jpg")
    with pytest.raises(UserError, match="is among the images of one person: give another folder"):
        contact_sheet.check_path(sheet, str(tmp_path))


def test_a_damaged_ledger_is_named(tmp_path):
    (tmp_path / ledger.FILE_NAME).write_text("{")
    with pytest.raises(UserError, match=r"faces\.json is damaged"):
        _write(tmp_path)


def test_options_refuse_no_people_in_one_line(tmp_path):
    result = _run_tool(f"--output={tmp_path}", "--identities=0")
    assert result.returncode == 2
    assert "--identities=0" in result.stderr and result.stderr.count("\n") == 1


def test_the_tool_draws_a_contact_sheet(tmp_path):
    flags = [f"--{name}={value}" for name, value in SMALL.items()]
    result = _run_tool(
        f"--output={tmp_path / 'faces'}", f"--contact_sheet={tmp_path / 'sheet.png'}", *flags
    )
    assert result.returncode == 0, result.stderr
    assert "6 images of 3 people" in result.stdout
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (2 * 32 + 2, 3 * 32 + 2 * 2)


def test_the_samples_in_the_repository_are_what_the_readme_says():
    folder = ROOT / "data" / "samples"
    assert dataclasses.astuple(ledger.read(str(folder)))[2:4] == (4, 3)
    assert len(_contents(folder)) == 12


def _run_tool(*flags):
    command = [sys.executable, str(ROOT / "tools" / "make_faces.py"), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)
