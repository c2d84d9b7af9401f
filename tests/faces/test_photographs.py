"""The points of drawn faces are where a detector finds them, in crops and in photographs."""

import numpy as np
import pytest
import simplejpeg

from fv import alignment, detection, face_files
from fv.errors import UserError
from fv.faces import dataset, photographs, renderer


def test_drawn_points_are_those_that_a_detector_finds():
    detector, distances = detection.load(detection.MTCNN), []
    for person in (2, 3, 4, 5, 6):
        pixels = simplejpeg.decode_jpeg(renderer.render_jpeg(1, person, 1, 160), "RGB")
        encoded, in_photograph = photographs.draw_photograph(1, person, 1)
        cases = [
            (pixels, photographs.draw_face(1, person, 1, 160)),
            (simplejpeg.decode_jpeg(encoded, "RGB"), in_photograph),
        ]
        for picture, face in cases:
            found = alignment.choose_face(detector.detect([picture])[0], *picture.shape[1::-1])
            if found is not None:
                away = np.hypot(*(found.points - face.points).T)
                distances.append(np.median(away) / face.eye_distance)
    assert len(distances) >= 7 and np.median(distances) < 0.15


def test_points_scale_with_the_image_and_stay_inside_a_photograph():
    small, large = (photographs.draw_face(1, 0, 0, size).points for size in (56, 224))
    np.testing.assert_allclose((small + 0.5) * 4, large + 0.5)
    for person in range(5):
        encoded, face = photographs.draw_photograph(2, person, 0)
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
    expected = photographs.draw_photograph(0, 1, 2)
    assert (tmp_path / "faces" / "person_00001" / "0002.jpg").read_bytes() == expected[0]
    np.testing.assert_allclose(faces["person_00001/0002.jpg"].points, expected[1].points, atol=0.01)
    assert dataset.write_dataset(options) == 0  # and writes the same points again
    crops = dataset.FacesOptions(output=options.output, identities=2, images_per_identity=3)
    with pytest.raises(UserError, match="says image_size=640, not 112"):
        dataset.write_dataset(crops)
