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
    assert table.to_numpy().tolist() == [
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
        ("1\nAl\t1\t2\nAl 1 Bo 2\n", "line 3: 'Al 1 Bo 2' is neither"),
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


LISTED = pd.DataFrame(
    {"path": ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"], "identity": pd.Categorical(list("aabb"))}
)
NONE = pd.DataFrame(columns=["path", "reason"])


def table(*rows):
    return pd.DataFrame(
        [(*row, line) for line, row in enumerate(rows, start=2)],
        columns=["a", "b", "label", "line"],
    )


def test_only_the_images_of_the_pairs_are_selected():
    used = pair_lists.select_images(table(("b/2.jpg", "b/1.jpg", 1)), LISTED, NONE, "list")
    assert list(used["path"]) == ["b/1.jpg", "b/2.jpg"]
    assert list(used.index) == [0, 1]
    assert list(used["identity"].cat.categories) == ["b"]


def test_pairs_become_indices_in_their_order():
    pairs = table(("b/2.jpg", "b/1.jpg", 1), ("a/1.jpg", "b/1.jpg", 0))
    assert pair_lists.pairs_to_indices(pairs, LISTED, NONE, "list").to_numpy().tolist() == [
        [3, 2, 1],
        [0, 2, 0],
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("a/1.jpg", "a/2.jpg", 1), ("a/1.jpg", "a/9.jpg", 1)],
            "list, line 3: a/9.jpg: no such image",
        ),
        (
            [("a/1.jpg", "b/1.jpg", 1)],
            "line 2: labelled same, but a/1.jpg and b/1.jpg lie in the folders of two identities",
        ),
        ([("a/1.jpg", "a/2.jpg", 0)], "line 2: labelled different, but .* of one identity"),
        ([("a/1.jpg", "a/1.jpg", 1)], "line 2: a pair of a/1.jpg with itself"),
        (
            [("a/1.jpg", "a/2.jpg", 1), ("a/2.jpg", "a/1.jpg", 1)],
            "line 3: the pair of line 2 again",
        ),
    ],
)
def test_a_pair_that_cannot_be_is_named_by_its_line(rows, message):
    with pytest.raises(UserError, match=message):
        pair_lists.select_images(table(*rows), LISTED, NONE, "list")


def test_a_bad_image_is_named_with_its_line_and_reason():
    bad = pd.DataFrame({"path": ["b/1.jpg"], "reason": ["empty file"]})
    with pytest.raises(UserError, match="list, line 2: b/1.jpg: empty file; mend"):
        pair_lists.pairs_to_indices(
            table(("a/1.jpg", "b/1.jpg", 0)),
            LISTED[LISTED["path"] != "b/1.jpg"],
            bad,
            "list",
        )


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("a/1.JPG", "a/1.jpg"),
        ("A/1.jpg", "a/1.jpg"),
        ("a/1.jpeg", "a/1.jpg"),
        ("a/1", "a/1.jpg"),
        ("a\\1.jpg", "a/1.jpg"),
        ("faces/a/1.jpg", "a/1.jpg"),
        ("Zoe\u0308/1.jpg", "Zo\u00eb/1.jpg"),
        ("Andre\u0301/1.jpg", "Andre\u0301/1.png"),
        ("only.jpg", "b/only.jpg"),
    ],
)
def test_a_near_name_is_offered_and_works(path, near):
    known = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/only.jpg", "Zo\u00eb/1.jpg", "Andre\u0301/1.png"]
    images = pd.DataFrame(
        {"path": known, "identity": pd.Categorical([name.partition("/")[0] for name in known])}
    )
    with pytest.raises(
        UserError, match="list, line 2: .*: no such image .*; did you mean "
    ) as refused:
        pair_lists.select_images(table((path, "a/2.jpg", 0)), images, NONE, "list")
    said = str(refused.value).partition("did you mean ")[2]
    assert said.startswith((f"{near}?", f"{near},"))
    label = int(near.startswith("a/"))
    assert near in list(
        pair_lists.select_images(table((near, "a/2.jpg", label)), images, NONE, "list")["path"]
    )


def test_letters_that_differ_in_their_unicode_form_alone_are_said_to():
    said = pair_lists.suggest_paths(
        ["Zoe\u0308/1.jpg", "Zo\u00eb/2.jpg"], ["Zo\u00eb/1.jpg", "Zoe\u0308/2.jpg"]
    )
    assert "the same letters in the Unicode form NFC" in said["Zoe\u0308/1.jpg"]
    assert "the same letters in the Unicode form NFD" in said["Zo\u00eb/2.jpg"]


def test_a_name_that_may_be_several_others_offers_none():
    assert pair_lists.suggest_paths(["1.jpg", "c/9.jpg"], ["a/1.jpg", "b/1.jpg"]) == {}


def test_blanks_around_a_path_count_only_where_a_file_has_them():
    pairs = pair_lists.match_paths(
        table((" a/1.jpg", "b/1.jpg ", 0)), {"a/1.jpg", " a/1.jpg", "b/1.jpg"}
    )
    assert pairs[["a", "b"]].to_numpy().tolist() == [[" a/1.jpg", "b/1.jpg"]]
