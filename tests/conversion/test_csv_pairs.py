import pytest

from fv.conversion import csv_pairs
from fv.errors import UserError

HEADER = "image_a,image_b,label\n"


def read(tmp_path, text):
    path = tmp_path / "pairs.csv"
    path.write_bytes(text.encode())
    return csv_pairs.read(str(path))


def test_pairs_are_read_whatever_the_order_of_columns(tmp_path):
    table = read(
        tmp_path,
        '\ufefflabel,note,image_b,image_a\r\n1,x,"a/2, old.jpg",./a/1.jpg\r\n0,,b/ü 1.jpg,a/1.jpg\r\n',
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
        csv_pairs.read(str(tmp_path / "pairs.csv"))
