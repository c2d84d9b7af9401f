import pandas as pd
import pytest

from fv.conversion import crops
from fv.conversion.crops import Box
from fv.errors import UserError


def test_a_number_is_the_fraction_of_the_centre_square():
    assert crops.parse("0.64") == crops.Crop(fraction=0.64)
    assert crops.window(250, 200, 0.64, None) == Box(61, 36, 128, 128)
    assert crops.window(3, 3, 0.01, None) == Box(1, 1, 1, 1)


def test_none_is_the_whole_image():
    assert crops.window(250, 200, crops.parse("none").fraction, None) == Box(0, 0, 250, 200)


@pytest.mark.parametrize("text", ["0", "-0.5", "1.01", "nan"])
def test_a_fraction_out_of_range_is_refused(text):
    with pytest.raises(UserError, match=r"not in \(0, 1\]"):
        crops.parse(text)


def test_boxes_are_read_by_path_and_cut_at_the_border(tmp_path):
    (tmp_path / "boxes.csv").write_text(
        "path,left,top,width,height,score\n./a/1.jpg,-5,10.4,100,50,0.9\n"
    )
    crop = crops.parse(str(tmp_path / "boxes.csv"))
    assert crop.boxes == {"a/1.jpg": Box(-5, 10, 100, 50)}
    assert crops.window(80, 40, None, crop.boxes["a/1.jpg"]) == Box(0, 10, 80, 30)
    with pytest.raises(ValueError, match="lies outside its 80 × 8 pixels"):
        crops.window(80, 8, None, crop.boxes["a/1.jpg"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a/1.jpg,1,2,x,4", "line 2: left, top, width and height have to be numbers"),
        ("a/1.jpg,1,2,3", "line 2: left, top, width and height have to be numbers"),
        ("a/1.jpg,1,2,0,4", "line 2: a box of 0 × 4 pixels is empty"),
        ("../1.jpg,1,2,3,4", "line 2: '../1.jpg' leaves the images folder"),
    ],
)
def test_a_row_that_is_no_box_is_refused_with_its_line(tmp_path, row, message):
    (tmp_path / "boxes.csv").write_text(f"path,left,top,width,height\n{row}\n")
    with pytest.raises(UserError, match=message):
        crops.parse(str(tmp_path / "boxes.csv"))


def test_an_image_without_a_box_is_told():
    images = pd.DataFrame({"path": ["a/1.jpg", "a/2.jpg"]})
    kept, others = crops.boxed(images, crops.Crop(boxes={"a/2.jpg": Box(0, 0, 1, 1)}), "boxes.csv")
    assert kept["path"].tolist() == ["a/2.jpg"] and kept.index.tolist() == [0]
    assert others.to_numpy().tolist() == [["a/1.jpg", "no box in boxes.csv"]]
    assert len(crops.boxed(images, crops.Crop(), "none")[0]) == 2
