"""Faces of a data set: from a file or a detector, in blocks that survive, aligned and recorded."""

import contextlib
import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from fv import alignment, detection, face_files, manifest
from fv.alignment import TEMPLATE, Alignment, Face
from fv.conversion import convert, faces, image_files, sources, storage
from fv.conversion.faces import FaceOptions
from fv.conversion.options import ConvertOptions
from fv.errors import TemporaryError, UserError
from fv.faces import renderer
from fv.preprocessing import Preprocessing
from tests import samples

MTCNN = FaceOptions(detector="mtcnn")


class Fake:
    """A detector that sees the template, shifted by the brightness of the image."""

    name = "mtcnn 1.0.0"

    def __init__(self):
        self.calls = 0

    def detect(self, pictures):
        self.calls += 1
        return [self._detect(picture) for picture in pictures]

    def _detect(self, picture):
        shift = float(picture.mean())
        if shift < 1:
            return []
        return [Face(TEMPLATE + shift, (0.0, 0.0, 9.0, 9.0), 0.9)]


@pytest.fixture
def fake(monkeypatch):
    made = Fake()
    monkeypatch.setattr(detection, "load", lambda *_: made)
    return made


def write_people(folder, people=4, pictures=3):
    """Photographs of drawn people, 180 pixels wide, with the face off the centre."""
    for person in range(people):
        (folder / f"person_{person}").mkdir(parents=True)
        for number in range(pictures):
            face = renderer.render_jpeg(1, person + 2, number, 100)
            picture = np.full((160, 180, 3), 120, np.uint8)
            picture[50:150, 10:110] = simplejpeg.decode_jpeg(face, "RGB")
            path = folder / f"person_{person}" / f"{number}.jpg"
            Image.fromarray(picture).save(path, quality=95)
    return folder


def write_points(folder, path, points=None, without=()):
    """A CSV with the same points for every image."""
    points = np.array(TEMPLATE if points is None else points)
    paths = sorted(str(each.relative_to(folder)) for each in folder.rglob("*.jpg"))
    found = {each: None if each in without else Face(points, (1, 2, 3, 4), 1.0) for each in paths}
    face_files.write(str(path), found, alignment.GIVEN)
    return str(path)


def options(folder, output, **given):
    made = ConvertOptions(
        images=str(folder), output=str(output), store_size=64, workers=1, val_fraction=0.0,
        test_fraction=0.0, pairs=8, shards=1,
    )  # fmt: skip
    return dataclasses.replace(made, **given)


def test_images_are_stored_as_the_template_shows_them(tmp_path):
    folder = samples.write_images(tmp_path / "faces", 3, 3, 120)
    points = write_points(folder, tmp_path / "points.csv", TEMPLATE + 3)
    chosen = FaceOptions(face_points=points)
    made, left_out = convert.convert(
        options(folder, tmp_path / "shards", faces=chosen, align_margin=0.1)
    )
    assert made.image_side == 64 and left_out.empty
    expected = Alignment(0.1, "given points")
    assert manifest.read(str(tmp_path / "shards")).preprocessing.alignment == expected
    data = (folder / "person_000" / "0000.jpg").read_bytes()
    rules = storage.StorageRules(
        10**7, Preprocessing(store_size=64, jpeg_quality=95, alignment=expected)
    )
    stored = simplejpeg.decode_jpeg(storage.prepare_image(data, rules, TEMPLATE + 3).stored, "RGB")
    whole = simplejpeg.decode_jpeg(data, "RGB")
    cut = expected.align(whole, TEMPLATE + 3, 64)
    assert np.abs(stored.astype(int) - cut).mean() < 3


def test_an_image_without_a_face_is_reported_or_its_centre_is_taken(tmp_path):
    folder = samples.write_images(tmp_path / "faces", 3, 3, 120)
    points = write_points(folder, tmp_path / "points.csv", without=("person_001/0001.jpg",))
    skipping = options(folder, tmp_path / "skip", faces=FaceOptions(face_points=points))
    _, left_out = convert.convert(skipping)
    assert left_out["path"].tolist() == ["person_001/0001.jpg"]
    report = json.loads((tmp_path / "skip" / "report.json").read_text())["faces"]
    assert (report["found"], report["missing"], report["several"]) == (8, 1, 0)
    assert report["missing_files"] == ["person_001/0001.jpg"]
    assert report["eye_distance"] == [{"from": 30, "to": 39, "faces": 8}]
    page = (tmp_path / "skip" / "report.html").read_text()
    assert "8 found, 1 image without a face" in page and "points of the template" in page
    assert "no face in it" in left_out["reason"][0] and "points.csv" in left_out["reason"][0]
    centre = FaceOptions(face_points=points, no_face="centre")
    _, left_out = convert.convert(options(folder, tmp_path / "centre", faces=centre))
    assert left_out.empty


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(faces=MTCNN, store_size=None), "squares of --store_size: give it"),
        (dict(faces=MTCNN, crop="0.5"), "--crop=0.5 and mtcnn both say"),
        (dict(align_margin=0.2), "--align_margin=0.2 is of aligned faces"),
        (dict(faces=FaceOptions("a.csv", "mtcnn")), "both say where faces are"),
        (dict(faces=FaceOptions(detector_model="x")), "needs --detector=yunet"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(tmp_path, given, message):
    folder = samples.write_images(tmp_path / "faces", 2, 2)
    with pytest.raises(UserError, match=message):
        convert.convert(options(folder, tmp_path / "shards", **given))


def test_a_block_that_is_done_is_not_detected_again(tmp_path, fake):
    folder = samples.write_images(tmp_path / "faces", 2, 40)
    (folder / "person_000" / "0001.jpg").write_bytes(b"damaged")
    paths = sorted(str(each.relative_to(folder)) for each in folder.rglob("*.jpg"))

    def find():
        arguments = (MTCNN, 0.0, paths, str(folder), 10**7, map, str(tmp_path / "blocks"))
        return faces.find_faces(*arguments)

    first = find()
    assert fake.calls == 2 and first.unreadable == {"person_000/0001.jpg"}
    again = find()
    assert fake.calls == 2 and again.by_path.keys() == first.by_path.keys()
    assert again.unreadable == first.unreadable
    for path, face in first.by_path.items():
        assert (face.points == again.by_path[path].points).all()
    # Another image in the second block: only this block is sought again.
    (folder / "person_001" / "0039.jpg").write_bytes(samples.image_bytes(9, 9))
    find()
    assert fake.calls == 3


def fail_once(monkeypatch, name, code):
    """The first reading of an image fails."""
    read, failed = sources.read_image, []

    def fail(root, place, most):
        if place.path == name and not failed:
            failed.append(name)
            raise OSError(code, os.strerror(code), name)
        return read(root, place, most)

    monkeypatch.setattr(sources, "read_image", fail)


@pytest.fixture
def in_process(monkeypatch):
    """Conversions use the patched functions, in this process."""
    monkeypatch.setattr(convert, "start_runner", lambda *_: contextlib.nullcontext(map))


@pytest.mark.parametrize("no_face", [faces.SKIP, faces.CENTRE])
def test_a_damaged_image_is_left_out_for_its_own_reason(tmp_path, fake, in_process, no_face):
    folder = samples.write_images(tmp_path / "faces", 3, 3)
    (folder / "person_000" / "0001.jpg").write_bytes(b"damaged")
    black = np.zeros((20, 20, 3), np.uint8)
    Image.fromarray(black).save(folder / "person_001" / "0001.jpg")
    chosen = options(folder, tmp_path / "out", faces=dataclasses.replace(MTCNN, no_face=no_face))
    _, left_out = convert.convert(chosen)
    reasons = dict(left_out.itertuples(index=False))
    assert "face" not in reasons.pop("person_000/0001.jpg")
    assert list(reasons) == ([] if no_face == faces.CENTRE else ["person_001/0001.jpg"])
    told = json.loads((tmp_path / "out" / "report.json").read_text())["faces"]
    assert told["missing_files"] == ["person_001/0001.jpg"]
    with pytest.raises(UserError, match="0001.jpg: .*--strict stops here"):
        convert.convert(dataclasses.replace(chosen, strict=True, overwrite=True))
    (tmp_path / "pairs.csv").write_text(
        "image_a,image_b,label\nperson_000/0000.jpg,person_000/0001.jpg,1\n"
    )
    listed = dataclasses.replace(
        chosen, pairs=None, pairs_csv=str(tmp_path / "pairs.csv"), overwrite=True
    )
    with pytest.raises(UserError, match=r"line 2: person_000/0001.jpg: .*; mend the image"):
        convert.convert(listed)


def test_a_stale_file_while_faces_are_sought_is_temporary(tmp_path, fake, in_process, monkeypatch):
    folder = samples.write_images(tmp_path / "faces", 3, 3)
    fail_once(monkeypatch, "person_001/0001.jpg", errno.ESTALE)
    chosen = options(folder, tmp_path / "out", faces=MTCNN)
    with pytest.raises(TemporaryError, match="person_001/0001.jpg"):
        convert.convert(chosen)
    assert convert.convert(chosen)[1].empty


def test_an_image_whose_face_was_not_sought_is_not_stored(tmp_path, fake, in_process, monkeypatch):
    folder = samples.write_images(tmp_path / "faces", 3, 3)
    fail_once(monkeypatch, "person_001/0001.jpg", errno.EIO)
    _, left_out = convert.convert(options(folder, tmp_path / "out", faces=MTCNN))
    assert left_out["path"].tolist() == ["person_001/0001.jpg"]
    assert "could not be read when its face was sought" in left_out["reason"][0]


def test_faces_lie_upright_where_exif_turns_the_image(tmp_path, fake):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:10] = 255  # the top of the upright image
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    path = tmp_path / "1.jpg"
    Image.fromarray(picture[::-1, ::-1]).save(path, exif=exif)
    upright = storage.decode_upright(path.read_bytes(), 10**7)
    assert upright[:8].min() > 240 and upright[12:].max() < 15
    with pytest.raises(image_files.BadImage, match="million of --max_megapixels"):
        storage.decode_upright(path.read_bytes(), 100)


def test_an_edited_file_of_faces_is_not_replaced(tmp_path):
    output = tmp_path / "shards"
    found = faces.Faces(Alignment(), {"a/1.jpg": None}, faces.SKIP, "mtcnn")
    faces.save(found, str(output))
    faces.require_own_file(str(output))
    faces.save(found, str(output))
    (output / faces.FILE).write_text("path,x,y,width,height\na/1.jpg,1,2,3,4\n")
    with pytest.raises(UserError, match=r"changed by hand: use it by --face_points=.*faces.csv"):
        faces.require_own_file(str(output))


def test_the_report_counts_the_faces_of_the_data_set_only(tmp_path):
    folder = samples.write_images(tmp_path / "faces", 4, 3)
    paths = sorted(str(each.relative_to(folder)) for each in folder.rglob("*.jpg"))
    known = dict.fromkeys([*paths[1:], "person_009/ 0001.jpg"], Face(TEMPLATE / 2))
    points = str(tmp_path / "points.csv")
    face_files.write(points, known, "")
    chosen = FaceOptions(points, no_face=faces.CENTRE)
    convert.convert(options(folder, tmp_path / "shards", faces=chosen, pairs=12))
    told = json.loads((tmp_path / "shards" / "report.json").read_text())["faces"]
    assert (told["found"], told["missing_files"]) == (len(paths) - 1, [paths[0]])


@pytest.mark.slow
def test_detected_faces_are_aligned_written_and_used_again(tmp_path):
    folder = write_people(tmp_path / "people", 3, 4)
    Image.fromarray(np.full((100, 100, 3), 99, np.uint8)).save(folder / "person_0" / "none.jpg")
    chosen = options(folder, tmp_path / "shards", faces=MTCNN, pairs=6)
    made, left_out = convert.convert(chosen)
    assert "person_0/none.jpg" in left_out["path"].tolist()
    assert made.preprocessing.alignment.detector == "mtcnn 1.0.0"
    written = str(tmp_path / "shards" / faces.FILE)
    read, detector = face_files.read(written)
    assert detector == "mtcnn 1.0.0" and read["person_0/none.jpg"] is None
    assert sum(face is not None for face in read.values()) >= 9
    assert not (tmp_path / "shards" / ".fv" / faces.BLOCKS).exists()
    again = options(folder, tmp_path / "again", faces=FaceOptions(face_points=written), pairs=6)
    copied, _ = convert.convert(again)
    assert copied.preprocessing == made.preprocessing
    assert samples.digests(tmp_path / "again") == samples.digests(tmp_path / "shards")


@pytest.mark.slow
def test_a_killed_detection_continues_and_finds_the_same_points(tmp_path):
    folder = write_people(tmp_path / "people", 50, 6)

    def command(output):
        return [
            sys.executable, "-m", "fv.make_tfrecords", f"--images={folder}", f"--output={output}",
            "--detector=mtcnn", "--store_size=64", "--workers=1", "--identity_level=1",
        ]  # fmt: skip

    process = subprocess.Popen(command(tmp_path / "killed"))
    blocks = tmp_path / "killed" / ".fv" / faces.BLOCKS
    while process.poll() is None and len(list(blocks.glob("*.npy"))) < 2:
        time.sleep(0.1)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in blocks.glob("*.npy")}
    assert kept
    subprocess.run(command(tmp_path / "whole"), check=True)
    subprocess.run(command(tmp_path / "killed"), check=True)
    one, other = ((tmp_path / name / faces.FILE).read_bytes() for name in ("whole", "killed"))
    assert one == other and len(one.splitlines()) == 301
    assert samples.digests(tmp_path / "killed") == samples.digests(tmp_path / "whole")


@pytest.mark.slow
def test_a_photograph_of_50_megapixels_takes_bounded_memory(tmp_path):
    face = simplejpeg.decode_jpeg(renderer.render_jpeg(1, 2, 1, 112), "RGB")
    picture = np.full((480, 640, 3), 120, np.uint8)
    picture[180:292, 300:412] = face
    for person in range(2):
        (tmp_path / "people" / f"person_{person}").mkdir(parents=True)
        for number in range(8):
            large = cv2.resize(picture, (8160, 6120))
            path = tmp_path / "people" / f"person_{person}" / f"{number}.jpg"
            path.write_bytes(simplejpeg.encode_jpeg(large, 90 + number, "RGB", "420"))
    code = (
        "import re, sys\n"
        "from fv.conversion import datasets, faces\n"
        "found = faces.detect_task(faces.FaceOptions(detector='mtcnn'), 'x', sys.argv[1], 10**8,"
        " None, [datasets.Place(each) for each in sys.argv[2:]])\n"
        # Not ru_maxrss, which begins with the memory of the parent process.
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]\n"
        "print(int((found[:, 0] > 0).sum()), peak)"
    )
    names = sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*.jpg"))
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), *names], capture_output=True, check=True
    )
    count, kilobytes = map(int, ran.stdout.split())
    assert count == 16 and kilobytes < 1_500_000  # one whole image is 150 MB
