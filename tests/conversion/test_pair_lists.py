import pandas as pd
import pytest

from fv.conversion import pair_lists
from fv.errors import UserError

HEADER = "image_a,image_b,label\n"


def read(tmp_path, text):
    path = tmp_path / "pairs.csv"
    path.write_bytes(text.encode())
    return pair_lists.read_csv_pairs(str(path))


def test_pairs_are_read_whatever_the_order_of_columns(tmp_path):
    table = read(
        tmp_path,
        '\ufefflabel,note,image_b,image_a\r\n1,x,"a/2, old.jpg",./a/1.jpg\r\n'
        "0,,b/ü 1.jpg,a/1.jpg\r\n",
    )
    assert table.to_numpy().tolist() == [
        ["a/1.jpg", "a/2, old.jpg", 1, 2],
        ["a/1.jpg", "b/ü 1.jpg", 0, 3],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column image_a, image_b, label"),
        ("image_a,image_b\na/1.jpg,a/2.jpg\n", "no column label"),
        (HEADER, "lists nothing"),
        (HEADER + "a/1.jpg,a/2.jpg,same\n", "line 2: label 'same' is neither"),
        (HEADER + "a/1.jpg,a/2.jpg,1\na/1.jpg,a/2.jpg\n", "line 3: label '' is neither"),
        (HEADER + "a/1.jpg,,1\n", "line 2: an image's path is empty"),
        (HEADER + "../x/1.jpg,a/1.jpg,1\n", r"line 2: '\.\./x/1.jpg' leaves the images folder"),
        (HEADER + "a/../../x.jpg,a/1.jpg,1\n", "line 2: .* leaves the images folder"),
        (HEADER + "/etc/passwd,a/1.jpg,1\n", "line 2: '/etc/passwd' leaves the images folder"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "pairs.csv").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UserError, match="cannot be read as a CSV"):
        pair_lists.read_csv_pairs(str(tmp_path / "pairs.csv"))


IMAGES = pd.DataFrame(
    {"path": ["Al/Al_0001.jpg", "Al/Al_0002.PNG", "Bo/Bo_0001.jpg", "Bo/Bo_0002.jpg"]}
)
VIEW_1 = "1\nAl\t1\t2\nAl\t1\tBo\t2\n"


def read_lfw(tmp_path, text):
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="utf-8")
    return pair_lists.read_lfw_pairs(str(path), IMAGES)


def test_view_1_is_read_with_the_suffixes_of_the_files(tmp_path):
    table = read_lfw(tmp_path, VIEW_1)
    assert table[["a", "b", "label", "line"]].to_numpy().tolist() == [
        ["Al/Al_0001.jpg", "Al/Al_0002.PNG", 1, 2],
        ["Al/Al_0001.jpg", "Bo/Bo_0002.jpg", 0, 3],
    ]


def test_view_2_is_read_fold_by_fold(tmp_path):
    table = read_lfw(tmp_path, "2\t1\nAl\t1\t2\nAl\t1\tBo\t2\nBo\t1\t2\nAl\t1\tBo\t1\n")
    assert table["label"].tolist() == [1, 0, 1, 0]


def test_an_image_that_is_not_there_gets_the_name_it_should_have(tmp_path):
    assert read_lfw(tmp_path, VIEW_1.replace("2", "7"))["b"].tolist() == [
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
        pair_lists.read_lfw_pairs(str(path), images)
    table = pair_lists.read_lfw_pairs(
        str(path), images[images["path"] != "Al/Al_0002.png"]
    )  # nothing lists Bo 1
    assert table["a"].tolist() == ["Al/Al_0001.jpg"] * 2


def test_people_are_found_at_the_level_that_names_them(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(VIEW_1)
    images = pd.DataFrame({"path": ["x/Al/Al_0001.jpg", "y/Al/Al_0002.jpg", "y/Bo/Bo_0002.png"]})
    assert pair_lists.read_lfw_pairs(str(path), images, 2)["b"].tolist() == [
        "y/Al/Al_0002.jpg",
        "y/Bo/Bo_0002.png",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: '' is not the number"),
        ("image_a,image_b,label\n", "line 1: 'image_a,image_b,label' is not the number"),
        ("2\nAl\t1\t2\n", "1 pairs where its first line promises 4"),
        ("1\nAl\t1\t2\nAl 1 Bo two\n", "line 3: 'Al 1 Bo two' is neither"),
        ("9" * 5000 + "\n", "line 1: '9+' is not the number"),
        ("1\nAl\t1\t" + "9" * 5000 + "\nAl\t1\tBo\t2\n", "line 2: .* is neither"),
        ("1\nAl\t1\tx\nAl\t1\tBo\t2\n", "line 2: .* is neither"),
        ("1\nAl\t1\tBo\t2\nAl\t1\t2\n", "line 2: genuine and impostor pairs are not in runs of 1"),
    ],
)
def test_a_line_out_of_format_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_lfw(tmp_path, text)


def test_an_lfw_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "pairs.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="not a text file"):
        pair_lists.read_lfw_pairs(str(tmp_path / "pairs.txt"), IMAGES)
