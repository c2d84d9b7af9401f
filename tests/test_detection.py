"""Faces are found in photographs, wherever they are, and batches do not change what is found."""

import errno
import os
import sys

import cv2
import numpy as np
import pytest
import simplejpeg

from fv import detection
from fv import mtcnn as mtcnn_module
from fv.errors import TemporaryError, UserError
from fv.faces import renderer


def drawn(person, image=1, side=112):
    """A synthetic face that MTCNN finds, uint8 [side, side, 3]."""
    return simplejpeg.decode_jpeg(renderer.render_jpeg(1, person, image, side), "RGB")


def photograph(faces, size=(480, 640)):
    """Faces on grey, each (pixels, left, top)."""
    made = np.full((*size, 3), 130, np.uint8)
    for pixels, left, top in faces:
        made[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return made


@pytest.fixture(scope="module")
def mtcnn():
    return detection.load(detection.MTCNN)


def find(detector, image):
    return detection.find_faces(detector, [image])[0]


def test_a_face_is_found_where_it_was_placed(mtcnn):
    near = find(mtcnn, photograph([(drawn(2), 100, 200)]))
    far = find(mtcnn, photograph([(drawn(2), 400, 60)]))
    np.testing.assert_allclose(far.points - near.points, [[300, -140]] * 5, atol=3)
    left, top, width, height = near.box
    assert left > 100 and top > 200 and left + width < 212 and top + height < 320
    assert near.confidence > 0.8 and near.faces == 1


def test_a_batch_gives_the_same_points_as_each_image_alone(mtcnn):
    batch = [photograph([(drawn(person), 100, 90)], (300, 320)) for person in (2, 3, 4)]
    batch.insert(1, photograph([], (200, 200)))
    found = mtcnn.detect(batch)
    assert not found[1] and all(found[place] for place in (0, 2, 3))
    for image, faces in zip(batch, found, strict=True):
        for alone, among in zip(mtcnn.detect([image])[0], faces, strict=True):
            np.testing.assert_allclose(alone.points, among.points, atol=0.02)


def test_a_large_photograph_has_its_face_at_the_place_in_the_original(mtcnn):
    small = photograph([(drawn(2), 300, 200)])
    large = cv2.resize(small, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    expected = (find(mtcnn, small).points + 0.5) * 4 - 0.5
    np.testing.assert_allclose(find(mtcnn, large).points, expected, atol=12)


def test_two_people_at_the_border_and_nobody(mtcnn):
    two = photograph([(drawn(2, side=160), 240, 160), (drawn(3), 20, 20)])
    found = find(mtcnn, two)
    assert found.faces == 2 and found.box[0] > 240  # the one in the middle
    cut = photograph([(drawn(3)[:, 20:], 0, 200)])  # a sixth of the image is outside
    assert find(mtcnn, cut) is not None
    assert find(mtcnn, photograph([])) is None and find(mtcnn, np.zeros((3, 2, 3), "u1")) is None


def test_pictures_of_nothing_are_searched_to_the_end(mtcnn):
    # The second network takes parts of some of them for faces, the third does not.
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (*rng.integers(3, 60, 2), 3), np.uint8) for _ in range(30)]
    pictures = [cv2.resize(each, (160, 120), interpolation=cv2.INTER_CUBIC) for each in coarse]
    assert sum(face is not None for face in detection.find_faces(mtcnn, pictures)) <= 2


def test_yunet_gets_small_bgr_images_and_its_points_are_those_of_the_original(
    monkeypatch, tmp_path
):
    seen = []

    class Network:
        def setInputSize(self, size):
            seen.append(size)

        def detect(self, image):
            seen.append(image[0, 0].tolist())
            row = [10, 20, 30, 40, *range(10), 0.9]
            return 1, np.array([row, [*row[:-1], 0.95]], np.float32)

    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *_: Network())
    (tmp_path / "yunet.onnx").write_bytes(b"weights")
    detector = detection.Yunet(str(tmp_path / "yunet.onnx"))
    image = np.full((960, 1280, 3), (10, 20, 30), np.uint8)
    faces = detection.find_all(detector, [image])[0]
    assert seen == [(640, 480), [30, 20, 10]]
    assert faces[0].box == (20, 40, 60, 80) and faces[0].confidence == pytest.approx(0.95)
    np.testing.assert_allclose(faces[0].points, (np.arange(10).reshape(5, 2) + 0.5) * 2 - 0.5)
    assert detection.require("yunet", str(tmp_path / "yunet.onnx")).startswith("yunet ")


def test_what_a_detector_lacks_is_one_line(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="--detector=yunet needs --detector_model=FILE"):
        detection.require(detection.YUNET)
    with pytest.raises(UserError, match="x.onnx cannot be read: No such file"):
        detection.require(detection.YUNET, str(tmp_path / "x.onnx"))
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match="x.onnx is no model of YuNet"):
        detection.Yunet(str(tmp_path / "x.onnx"))
    with pytest.raises(UserError, match="is for --detector=yunet"):
        detection.require(detection.MTCNN, "x.onnx")
    monkeypatch.setitem(sys.modules, "mtcnn", None)
    monkeypatch.setattr(mtcnn_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package mtcnn: pip install 'fv\[align\]'"):
        detection.require(detection.MTCNN)


def test_a_stale_model_of_yunet_is_a_temporary_error(monkeypatch):
    def stale(path, *_):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)

    monkeypatch.setattr(detection, "open", stale, raising=False)
    with pytest.raises(TemporaryError, match="x.onnx"):
        detection.require(detection.YUNET, "x.onnx")
