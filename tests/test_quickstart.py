"""Tests of fv.quickstart."""

import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from fv import face_files, options, quickstart, verify
from fv.alignment import Face
from fv.conversion import faces
from fv.errors import UserError
from fv.faces import dataset
from fv.quickstart import QuickstartOptions


def write_people(
    root: pathlib.Path, people: int, images: int, suffix: str = ".jpg"
) -> pathlib.Path:
    rng = np.random.default_rng(0)
    for person in range(people):
        folder = root / f"person_{person}"
        folder.mkdir(parents=True)
        for number in range(images):
            pixels = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}{suffix}")
    return root


def refusal(images: pathlib.Path, output: pathlib.Path, **options) -> str:
    with pytest.raises(UserError) as raised:
        quickstart.quickstart(QuickstartOptions(images=str(images), output=str(output), **options))
    return str(raised.value)


@pytest.mark.parametrize("people", [2, 5])
def test_too_few_people_are_refused_with_the_number_needed(people, tmp_path):
    images = write_people(tmp_path / "images", people, 3)
    message = refusal(images, tmp_path / "output")
    assert f"{people} people with two images or more, and 6 are needed" in message


def test_people_with_one_image_do_not_count(tmp_path):
    images = write_people(tmp_path / "images", 8, 1)
    assert "0 people with two images or more" in refusal(images, tmp_path / "output")


def test_one_person_is_refused(tmp_path):
    images = write_people(tmp_path / "images", 1, 3)
    assert "images of one identity only" in refusal(images, tmp_path / "output")


def test_splits_above_the_people_are_refused_with_the_flag_to_give(tmp_path):
    write_people(tmp_path / "images" / "train", 8, 2)
    write_people(tmp_path / "images" / "test", 8, 2)
    message = refusal(tmp_path / "images", tmp_path / "output")
    assert "--identity_level=2" in message and "--convert_flags" in message


def test_an_output_of_other_options_is_refused_and_stays(tmp_path):
    images = write_people(tmp_path / "images", 2, 2)
    refusal(images, tmp_path / "output")
    kept = (tmp_path / "output" / "quickstart.flags").read_text()
    message = refusal(images, tmp_path / "output", seed=1)
    assert "was made with other options" in message
    assert (tmp_path / "output" / "quickstart.flags").read_text() == kept


def test_a_stage_ends_the_run_with_its_own_exit_code(tmp_path, capfd):
    images = write_people(tmp_path / "images", 8, 2)
    options = QuickstartOptions(
        images=str(images), output=str(tmp_path / "output"), convert_flags="--pairs=100000"
    )
    with pytest.raises(SystemExit) as raised:
        quickstart.quickstart(options)
    printed = capfd.readouterr()
    assert raised.value.code == 2
    assert "fv.make_tfrecords" in printed.out and "--pairs=100000" in printed.err


def test_flags_with_an_open_quotation_are_refused(tmp_path):
    message = refusal(tmp_path, tmp_path / "output", convert_flags="--images='a")
    assert message == "--convert_flags=--images='a: No closing quotation"


@pytest.mark.slow
def test_it_ends_with_an_export_and_continues_with_what_is_older_than_its_input(command, tmp_path):
    faces, output = tmp_path / "faces", tmp_path / "output"
    dataset.write_dataset(
        dataset.FacesOptions(
            output=str(faces), identities=40, images_per_identity=4, image_size=48, seed=1
        )
    )
    arguments = ["-m", "fv.quickstart", f"--images={faces}", f"--output={output}", "--steps=20"]

    def run() -> list[str]:
        """Runs it and returns the stages that it ran."""
        done = command(*arguments)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) - lines.index("", len(lines) - 24) <= 24
        return [line.split()[3] for line in lines if line.startswith("$ ")]

    verdicts = ["fv.verify"] * 2
    main = ["fv.train", "fv.evaluate", "fv.export"]
    first = ["fv.make_tfrecords", "fv.train", "fv.export", "fv.verify"]
    assert run() == [*first, *main, *verdicts]
    figures = json.loads((output / "run" / "metrics.json").read_text())
    assert figures["auc"] > 0.5 and (output / "run" / "report.html").exists()
    assert run() == ["fv.verify", *verdicts]  # all else is newer than its input

    flagfile = output / "run.flags"
    flagfile.write_text(flagfile.read_text().replace("--steps=20", "--steps=30"))
    assert run() == ["fv.verify", *main, *verdicts]
    assert (output / "export" / "2" / "saved_model.pb").exists()


@pytest.mark.slow
def test_minutes_decide_the_steps_and_images_of_any_kind_are_verified(command, tmp_path):
    faces = tmp_path / "faces"
    dataset.write_dataset(
        dataset.FacesOptions(
            output=str(faces), identities=24, images_per_identity=3, image_size=48, seed=1
        )
    )
    for path in faces.glob("*/*.jpg"):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    output = tmp_path / "output"
    done = command("-m", "fv.quickstart", f"--images={faces}", f"--output={output}", "--minutes=1")
    assert done.returncode == 0, done.stderr
    steps = int(re.search(r"--steps=(\d+)", (output / "run.flags").read_text())[1])
    assert steps == 60 and ".png" in done.stdout  # the fewest


def test_faces_are_found_as_the_converter_found_them():
    found = faces.FaceOptions(detector="yunet", detector_model="a.onnx", no_face="centre")
    flags = ["--detector=yunet", "--detector_model=a.onnx", "--no_face=crop"]
    assert quickstart.finder_flags(found) == flags
    options.parse(verify.VerifyOptions, ["--model=m", *flags])  # fv.verify accepts them
    assert quickstart.finder_flags(faces.FaceOptions(face_points="faces.csv")) == [
        "--detector=none"
    ]
    assert quickstart.finder_flags(faces.FaceOptions()) == []


@pytest.mark.slow
def test_with_a_file_of_faces_stored_crops_are_verified(command, tmp_path):
    folder, output = tmp_path / "faces", tmp_path / "output"
    dataset.write_dataset(
        dataset.FacesOptions(
            output=str(folder), identities=24, images_per_identity=3, image_size=96, seed=1
        )
    )
    points = [50.0, 40.0, 60.0, 40.0, 55.0, 48.0, 50.0, 56.0, 60.0, 56.0]
    table = tmp_path / "elsewhere" / "faces.csv"
    table.parent.mkdir()
    face = Face(np.reshape(points, (5, 2)))
    names = [str(path.relative_to(folder)) for path in sorted(folder.glob("*/*.jpg"))]
    face_files.write(str(table), dict.fromkeys(names, face), "")
    convert = f"--convert_flags=--face_points={table} --no_face=centre"
    done = command(
        "-m", "fv.quickstart", f"--images={folder}", f"--output={output}", "--steps=20", convert
    )
    assert done.returncode == 0, done.stderr
    verified = [line for line in done.stdout.splitlines() if "fv.verify" in line]
    assert all("--detector=none" in line and "pair_" in line for line in verified)
    assert len(verified) == 4  # three verdicts, and the command to repeat one
