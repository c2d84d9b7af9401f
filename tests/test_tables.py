import csv

import numpy as np
import pandas as pd
import pytest

from fv import tables
from fv.conversion import pair_lists, storage
from fv.errors import UserError
from fv.evaluation import given_scores

ODD_TEXTS = [
    "007",
    "NA",
    "null",
    "nan",
    "1e5",
    "True",
    "",
    " a ",
    'b, "2nd"',
    "zwei\nZeilen",
    "a\rb",
    "a\r\nb",
    "Zoë",
    "-0",
]


@pytest.fixture
def write(tmp_path):
    """Writes a table and returns its path."""

    def write(content: str | bytes) -> str:
        path = tmp_path / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_texts_come_out_of_a_written_table_as_they_went_in(tmp_path):
    path = str(tmp_path / "table.csv")
    tables.write(path, pd.DataFrame({"name": ODD_TEXTS, "number": np.arange(len(ODD_TEXTS)) / 8}))
    rows = tables.read(path, ("name", "number"))
    assert list(rows["name"]) == ODD_TEXTS
    np.testing.assert_array_equal(rows.numbers("number"), np.arange(len(ODD_TEXTS)) / 8)
    with open(path, newline="", encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ODD_TEXTS


def test_a_table_without_odd_texts_keeps_its_bytes(tmp_path):
    table = pd.DataFrame(
        {
            "path": ["a/1.jpg", "b, c/1.jpg"],
            "similarity": np.float32([0.1, 0.25]),
            "same": [True, False],
        }
    )
    tables.write(str(tmp_path / "table.csv"), table)
    assert (
        tmp_path / "table.csv"
    ).read_bytes() == b'path,similarity,same\na/1.jpg,0.1,True\n"b, c/1.jpg",0.25,False\n'


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x\n2,y\n",
        "\ufeffa,b\r\n1,x\r\n2,y\r\n",
        "a,b\n1,x\n2,y",
        "\n\na,b\n\n1,x\n   \n2,y\n\n\n",
        "a,b\n1,x\n,\n2,y\n,\n , \n",
        "a,b,\n1,x,\n2,y,\n",
        "a,b\n1,x,\n2,y,,\n",
        '"a","b"\n"1","x"\n"2","y"\n',
        " b ,c,a\nx,,1\ny,,2\n",
        "b,c,a,c\nx,,1,\ny,,2,\n",
    ],
    ids=[
        "plain",
        "BOM and CRLF",
        "no end",
        "blank lines",
        "blank rows",
        "trailing comma",
        "in rows",
        "quoted",
        "order",
        "twice unread",
    ],
)
def test_a_table_is_read_however_it_is_laid_out(write, content):
    rows = tables.read(write(content), ("a", "b"))
    assert (list(rows["a"]), list(rows["b"])) == (["1", "2"], ["x", "y"])


def test_a_table_behind_a_scheme_is_read(write):
    path = write("a,b\n1,x\n")
    assert list(tables.read(f"file://{path}", ("a",))["b"]) == ["x"]


def test_a_row_is_placed_on_the_line_on_which_it_begins(write):
    rows = tables.read(write('a,b\n1,"two\r\nlines"\n\n2,"x\ry"\n3,z\n'), ("a", "b"))
    assert [rows.place(row).rpartition(" ")[2] for row in range(3)] == ["2", "5", "7"]


def test_a_long_table_is_read_in_parts_with_the_same_lines(write):
    path = write("a\n" + "".join(f"{number}\n" for number in range(5000)))
    parts = list(tables.read_blocks(path, ("a",)))
    assert len(parts) > 1 and sum(map(len, parts)) == 5000
    assert [part.place(0) for part in parts] == [
        f"{path}, line {int(part['a'][0]) + 2}" for part in parts
    ]
    assert list(tables.read(path, ("a",)).lines) == list(range(2, 5002))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a;b\n1;x\n", "has no column a, b: .*is separated by ';': separate it by commas"),
        ("a\tb\n1\tx\n", "is separated by tabs: separate it by commas"),
        ("A,b\n1,x\n", "has no column a: its first line has to name a, b, and is 'A,b'"),
        ("a,b,a\n1,x,2\n", "line 1: column a is there twice"),
        (
            "a,b\n1,x\n2,y,z\n",
            "line 3: 3 fields where the first line names 2 columns: .*double quotes",
        ),
        (
            'a,b\n1,x\n2,"y\n3,z\n',
            r"line 3: the row cannot be read as a CSV \(unexpected end of data\)",
        ),
        ('a,b\n1,x\n2,"y"z\n', "line 3: the row cannot be read as a CSV"),
        ("a,b\n1,x\n2,Zoë\n".encode("latin-1"), "line 3 cannot be read as a CSV in UTF-8"),
        ("a,b\n1,x\n".encode("utf-16"), "line 1 cannot be read as a CSV in UTF-8"),
        ("a,b\n", "lists nothing"),
        ("", "has no column a, b"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_by_line(write, content, said):
    with pytest.raises(UserError, match=said):
        tables.read(write(content), ("a", "b"))


def labels_of(read, write, spelled: str) -> list[int]:
    return read(write(f"image_a,image_b,label,score\na/1,a/2,{spelled},0.5\n"))


LABEL_READERS = {
    "converter and evaluate --pairs_csv": lambda path: pair_lists.read_csv_pairs(path)[
        "label"
    ].tolist(),
    "evaluate --scores": lambda path: given_scores.read(path).labels.tolist(),
    "verify --pairs_csv": lambda path: (
        tables.read(path, ()).labels("label", blank_allowed=True).tolist()
    ),
}


@pytest.mark.parametrize("name", LABEL_READERS)
@pytest.mark.parametrize(
    ("spelled", "label"),
    [
        ("1", 1),
        (" 1 ", 1),
        ("1.0", 1),
        ("true", 1),
        ("TRUE", 1),
        ("0", 0),
        ("0.0", 0),
        ("False", 0),
        ('"0"', 0),
    ],
)
def test_a_label_is_spelled_alike_for_every_command(write, name, spelled, label):
    assert labels_of(LABEL_READERS[name], write, spelled) == [label]


@pytest.mark.parametrize("name", LABEL_READERS)
@pytest.mark.parametrize("spelled", ["2", "-1", "same", "yes", "1.5", "nan", "01", "１", "1e0"])
def test_what_is_no_label_is_refused_by_every_command(write, name, spelled):
    with pytest.raises(UserError, match=f"line 2: label '{spelled}' is neither"):
        labels_of(LABEL_READERS[name], write, spelled)


def test_numbers_are_the_nearest_to_their_text(write):
    texts = ["0.1", " -1.5e-3 ", "+7", ".5", "0.30000000000000004", "1e-320", "123456789012345678"]
    found = tables.read(write("x\n" + "\n".join(texts) + "\n"), ("x",)).numbers("x")
    assert found.tolist() == [float(text) for text in texts]


@pytest.mark.parametrize(
    "text", ["", "inf", "-inf", "nan", "1e999", "0x10", "1_000", "１", "1.5.0", "high"]
)
def test_what_is_no_finite_number_is_refused_by_line(write, text):
    with pytest.raises(UserError, match=f"line 3: x '{text}' is no finite number"):
        tables.read(write(f"x,y\n1,\n{text},7\n"), ("x",)).numbers("x")


def test_a_decimal_comma_is_told_from_other_mistakes(write):
    with pytest.raises(
        UserError, match=r"line 2: x '1,5' is no finite number: decimals take a point, as in 1\.5"
    ):
        tables.read(write('x\n"1,5"\n'), ("x",)).numbers("x")


def test_scores_beyond_what_can_be_squared_are_refused(write):
    with pytest.raises(UserError, match=r"line 3: score -1e\+200 is beyond"):
        given_scores.read(write("label,score\n1,0.5\n0,-1e200\n"))


def test_people_keep_their_names_whatever_they_look_like(write):
    given = given_scores.read(
        write(
            "label,score,identity_a,identity_b\n0,1,007,7\n0,2,NA,nan\n1,3,1e5,1e5\n0,4,1e5,100000\n"
        )
    )
    assert given.pairs.identities() == {"007", "7", "NA", "nan", "1e5", "100000"}


def test_a_second_box_of_an_image_is_refused_and_the_same_again_is_not(write):
    header = "path,left,top,width,height\na/1.jpg,0,0,9,9\n"
    assert storage.parse_crop(write(f"{header}./a//1.jpg,0,0,9,9\n")).boxes == {
        "a/1.jpg": storage.Box(0, 0, 9, 9)
    }
    with pytest.raises(UserError, match=r"line 3: a second box for a/1\.jpg"):
        storage.parse_crop(write(f"{header}a/1.jpg,5,0,9,9\n"))


@pytest.mark.parametrize(
    "path",
    ["a/1.jpg", "./a/1.jpg", "a//1.jpg", "b/../a/1.jpg", "{root}/a/1.jpg", "{root}/./a//1.jpg"],
)
def test_a_path_is_the_same_however_it_is_spelled(tmp_path, path):
    assert tables.normal_path(path.format(root=tmp_path), "here", str(tmp_path)) == "a/1.jpg"


@pytest.mark.parametrize(
    "path", ["../a/1.jpg", "/etc/passwd", "{root}", "a/../..", "{root}-other/a/1.jpg"]
)
def test_a_path_that_leaves_the_images_folder_is_refused(tmp_path, path):
    with pytest.raises(UserError, match="here: .* leaves the images folder"):
        tables.normal_path(path.format(root=tmp_path / "images"), "here", str(tmp_path / "images"))
