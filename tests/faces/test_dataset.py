"""Tests of fv.faces.dataset and tools/make_faces.py."""

import json
import pathlib
import platform
import subprocess
import sys

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from fv import alignment, detection, face_files, ownership
from fv.errors import UserError
from fv.faces import dataset, renderer

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
        ownership.private_folder(str(tmp_path)), f"writing-{platform.node()}-4194303-0", "0001.jpg"
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
    "change", [{"seed": 9}, {"image_size": 48}, {"identities": 2}, {"images_per_identity": 1}]
)
def test_faces_of_other_settings_are_refused(tmp_path, change):
    _write(tmp_path)
    before = _contents(tmp_path)
    (name,) = change
    with pytest.raises(UserError, match=f"{name}={SMALL[name]}, not {change[name]}: give another"):
        _write(tmp_path, **change)
    assert _contents(tmp_path) == before


def test_faces_of_another_renderer_are_refused(tmp_path):
    _write(tmp_path)
    record = tmp_path / dataset.RECORD
    changed = json.loads(record.read_text()) | {"renderer": dataset.RENDERER - 1}
    record.write_text(json.dumps(changed))
    with pytest.raises(UserError, match="renderer="):
        _write(tmp_path)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="empty folder"):
        _write(tmp_path)


def test_a_file_that_somebody_put_in_place_of_an_image_stays(tmp_path):
    _write(tmp_path)
    (tmp_path / "person_00001" / "0000.jpg").write_bytes(b"mine")
    (tmp_path / "person_00001" / "note.txt").write_text("mine")
    (tmp_path / "person_00001" / "0002.jpg").symlink_to("nowhere")
    assert _write(tmp_path, images_per_identity=3) == 2
    assert (tmp_path / "person_00001" / "0000.jpg").read_bytes() == b"mine"
    assert (tmp_path / "person_00001" / "note.txt").read_text() == "mine"
    assert (tmp_path / "person_00001" / "0002.jpg").is_symlink()


def test_a_contact_sheet_is_not_drawn_over_an_image(tmp_path):
    sheet = str(tmp_path / "person_00001" / "0001.jpg")
    with pytest.raises(UserError, match="is among the images of one person: give another folder"):
        dataset.check_contact_sheet(sheet, str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"seed": "many"}'])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / dataset.RECORD).write_text(content)
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


def test_the_samples_in_the_repository_are_what_the_readme_says(tmp_path):
    samples = ROOT / "data" / "samples"
    _write(tmp_path, identities=4, images_per_identity=3, seed=2, image_size=112)
    record = (samples / dataset.RECORD).read_text()
    assert record == (tmp_path / dataset.RECORD).read_text()
    assert _contents(samples).keys() == _contents(tmp_path).keys()


def _run_tool(*flags):
    command = [sys.executable, str(ROOT / "tools" / "make_faces.py"), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_drawn_points_are_those_that_a_detector_finds():
    detector, distances = detection.load(detection.MTCNN), []
    for person in (2, 3, 4, 5, 6):
        pixels = simplejpeg.decode_jpeg(renderer.render_jpeg(1, person, 1, 160), "RGB")
        encoded, in_photograph = dataset.draw_photograph(1, person, 1)
        cases = [
            (pixels, dataset.draw_face(1, person, 1, 160)),
            (simplejpeg.decode_jpeg(encoded, "RGB"), in_photograph),
        ]
        for picture, face in cases:
            found = alignment.choose_face(detector.detect([picture])[0], *picture.shape[1::-1])
            if found is not None:
                away = np.hypot(*(found.points - face.points).T)
                distances.append(np.median(away) / face.eye_distance)
    assert len(distances) >= 7 and np.median(distances) < 0.15


def test_points_scale_with_the_image_and_stay_inside_a_photograph():
    small, large = (dataset.draw_face(1, 0, 0, size).points for size in (56, 224))
    np.testing.assert_allclose((small + 0.5) * 4, large + 0.5)
    for person in range(5):
        encoded, face = dataset.draw_photograph(2, person, 0)
        assert simplejpeg.decode_jpeg(encoded).shape == (480, 640, 3)
        assert (face.points > 0).all() and (face.points < (640, 480)).all()
        assert abs(face.roll) < 45 and face.points[0, 0] < face.points[1, 0]


def test_a_folder_of_photographs_has_the_points_of_every_image(tmp_path):
    options = dataset.FacesOptions(
        output=str(tmp_path / "faces"),
        identities=2,
        images_per_identity=3,
        workers=1,
        photographs=True,
    )
    assert dataset.write_dataset(options) == 6
    faces, detector = face_files.read(str(tmp_path / "faces" / dataset.POINTS))
    assert detector == "drawn" and len(faces) == 6
    expected = dataset.draw_photograph(0, 1, 2)
    assert (tmp_path / "faces" / "person_00001" / "0002.jpg").read_bytes() == expected[0]
    np.testing.assert_allclose(faces["person_00001/0002.jpg"].points, expected[1].points, atol=0.01)
    assert dataset.write_dataset(options) == 0  # and writes the same points again
    crops = dataset.FacesOptions(output=options.output, identities=2, images_per_identity=3)
    with pytest.raises(UserError, match="says image_size=640, not 112"):
        dataset.write_dataset(crops)
