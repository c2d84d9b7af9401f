import pandas as pd
import pytest

from fv.conversion import lfw_pairs
from fv.errors import UserError

IMAGES = pd.DataFrame(
    {"path": ["Al/Al_0001.jpg", "Al/Al_0002.PNG", "Bo/Bo_0001.jpg", "Bo/Bo_0002.jpg"]}
)
VIEW_1 = "1\nAl\t1\t2\nAl\t1\tBo\t2\n"


def read(tmp_path, text):
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="utf-8")
    return lfw_pairs.read(str(path), IMAGES)


def test_view_1_is_read_with_the_suffixes_of_the_files(tmp_path):
    table = read(tmp_path, VIEW_1)
    assert table.to_numpy().tolist() == [
        ["Al/Al_0001.jpg", "Al/Al_0002.PNG", 1, 2],
        ["Al/Al_0001.jpg", "Bo/Bo_0002.jpg", 0, 3],
    ]


def test_view_2_is_read_fold_by_fold(tmp_path):
    table = read(tmp_path, "2\t1\nAl\t1\t2\nAl\t1\tBo\t2\nBo\t1\t2\nAl\t1\tBo\t1\n")
    assert table["label"].tolist() == [1, 0, 1, 0]


def test_an_image_that_is_not_there_gets_the_name_it_should_have(tmp_path):
    assert read(tmp_path, VIEW_1.replace("2", "7"))["b"].tolist() == [
        "Al/Al_0007.jpg",
        "Bo/Bo_0007.jpg",
    ]


def test_a_line_that_two_files_fit_is_refused_and_names_both(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(VIEW_1)
    images = pd.DataFrame(
        {
            "path": [
                "Al/Al_0001.jpg",
                "Al/Al_0002.jpg",
                "Al/Al_0002.png",
                "Bo/Bo_0001.png",
                "Bo/Bo_0001.jpg",
            ]
        }
    )
    with pytest.raises(
        UserError,
        match=r"line 2: Al/Al_0002 may be Al/Al_0002\.jpg or Al/Al_0002\.png: take all but one",
    ):
        lfw_pairs.read(str(path), images)
    table = lfw_pairs.read(
        str(path), images[images["path"] != "Al/Al_0002.png"]
    )  # nothing lists Bo 1
    assert table["a"].tolist() == ["Al/Al_0001.jpg"] * 2


def test_people_are_found_at_the_level_that_names_them(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(VIEW_1)
    images = pd.DataFrame({"path": ["x/Al/Al_0001.jpg", "y/Al/Al_0002.jpg", "y/Bo/Bo_0002.png"]})
    assert lfw_pairs.read(str(path), images, 2)["b"].tolist() == [
        "y/Al/Al_0002.jpg",
        "y/Bo/Bo_0002.png",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: '' is not the number"),
        ("image_a,image_b,label\n", "line 1: 'image_a,image_b,label' is not the number"),
        ("2\nAl\t1\t2\n", "1 pairs where its first line promises 4"),
        ("1\nAl\t1\t2\nAl 1 Bo 2\n", "line 3: 'Al 1 Bo 2' is neither"),
        ("9" * 5000 + "\n", "line 1: '9+' is not the number"),
        ("1\nAl\t1\t" + "9" * 5000 + "\nAl\t1\tBo\t2\n", "line 2: .* is neither"),
        ("1\nAl\t1\tx\nAl\t1\tBo\t2\n", "line 2: .* is neither"),
        ("1\nAl\t1\tBo\t2\nAl\t1\t2\n", "line 2: genuine and impostor pairs are not in runs of 1"),
    ],
)
def test_a_line_out_of_format_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "pairs.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="not a text file"):
        lfw_pairs.read(str(tmp_path / "pairs.txt"), IMAGES)
