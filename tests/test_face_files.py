"""Faces are read from CSV and Parquet files, written for people to edit, and checked."""

import numpy as np
import pandas as pd
import pytest

from fv import alignment, face_files
from fv.alignment import TEMPLATE, Face
from fv.errors import UserError
from fv.face_files import POINT_COLUMNS


def test_faces_written_to_a_csv_are_read_back(tmp_path):
    face = Face(np.round(2.345 * TEMPLATE - 70, 2), (1.0, 2.5, 30.0, 40.0), 0.9876, 2)
    path = str(tmp_path / "faces.csv")
    face_files.write(path, {"b/1.jpg": face, "a,b/2.jpg": None}, "mtcnn 1.0.0")
    faces, detector = face_files.read(path)
    assert detector == "mtcnn 1.0.0" and faces["a,b/2.jpg"] is None
    read = faces["b/1.jpg"]
    np.testing.assert_array_equal(read.points, face.points)
    assert (read.box, read.confidence, read.faces) == (face.box, face.confidence, 2)


def test_a_parquet_file_and_a_csv_give_the_same_faces(tmp_path):
    table = pd.DataFrame([TEMPLATE.ravel(), np.full(10, np.nan)], columns=list(POINT_COLUMNS))
    table.insert(0, "path", ["a/1.jpg", "a/2.jpg"])
    table.to_parquet(tmp_path / "faces.parquet")
    table.to_csv(tmp_path / "faces.csv", index=False)
    for name in ("faces.parquet", "faces.csv"):
        faces, detector = face_files.read(str(tmp_path / name))
        np.testing.assert_array_equal(faces["a/1.jpg"].points, TEMPLATE)
        assert faces["a/2.jpg"] is None and detector == alignment.GIVEN


def test_a_damaged_or_missing_parquet_file_and_a_column_of_lists_are_refused(tmp_path):
    path = tmp_path / "faces.parquet"
    with pytest.raises(FileNotFoundError) as missing:
        face_files.read(str(path))
    assert missing.value.errno  # without one it would be a bug of fv
    boxes = {"path": ["1.jpg"], "x": [[1.0, 2.0]], "y": [1], "width": [2], "height": [3]}
    pd.DataFrame(boxes).to_parquet(path)
    with pytest.raises(UserError, match="line 1: x '.*' is no number of pixels"):
        face_files.read(str(path))
    pd.DataFrame(boxes | {"x": [1.0], "embedding": [[1.0, 2.0]]}).to_parquet(path)
    assert face_files.read(str(path))[0]["1.jpg"].box == (1, 1, 2, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-60] + 40 * b"\x99" + whole[-20:])
    with pytest.raises(UserError, match="is no Parquet file"):
        face_files.read(str(path))


def test_a_box_gives_upright_points_inside_it(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("path,x,y,width,height\na/1.jpg,10,20,100,120\n")
    face = face_files.read(str(path))[0]["a/1.jpg"]
    assert face.box == (10, 20, 100, 120) and abs(face.roll) < 1.5
    assert (face.points > (10, 20)).all() and (face.points < (110, 140)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,x,y,width\n1.jpg,1,2,3\n", "has no column height"),
        ("path,x,y,width,height\n1.jpg,1,2,3,q\n", "line 2: height 'q' is no number of pixels"),
        ("path,x,y,width,height\n1.jpg,1,2,3,\n", "line 2: height '' is no number of pixels"),
        ("path,x,y,width,height\n1.jpg,1,2,0,3\n", "line 2: a box of 0 × 3 pixels is empty"),
        ("path,x,y,width,height\n1.jpg,1,2,3,3\n./1.jpg,,,,\n", "line 3: a second face for 1.jpg"),
        (",".join(("path", *POINT_COLUMNS)) + "\n1.jpg" + ",7" * 10, "line 2: .* no points of"),
    ],
)
def test_a_table_that_is_none_of_faces_is_refused(tmp_path, text, message):
    path = tmp_path / "faces.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        face_files.read(str(path))
