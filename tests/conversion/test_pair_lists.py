import numpy as np
import pandas as pd
import pytest

from fv.conversion import pair_checks, pair_lists
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


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff1\r\nAl\t1\t2\r\nAl\t1\tBo\t2\r\n",  # BOM, CRLF
        "Al\t1\t2\nAl\t1\tBo\t2\n",  # no header
        "1\nAl 1 2\nAl  1 Bo 2\n",  # blanks
        "1\n\nAl\t1\t2\n\nAl\t1\tBo\t2\n\n",  # blank lines
        "1\nAl\t01\t00002\t\nAl\t1\t\tBo\t2\n",  # zeros, empty fields
    ],
)
def test_lfw_lists_are_read_however_they_are_written(tmp_path, text):
    table = read_lfw(tmp_path, text)
    assert table[["a", "b", "label", "fold"]].to_numpy().tolist() == [
        ["Al/Al_0001.jpg", "Al/Al_0002.PNG", 1, 0],
        ["Al/Al_0001.jpg", "Bo/Bo_0002.jpg", 0, 0],
    ]


def test_names_with_blanks_and_long_numbers_are_found(tmp_path):
    (tmp_path / "pairs.txt").write_text("1\nAda Lee\t12345\t7\nAda Lee\t7\tBo_2\t3\n")
    images = pd.DataFrame(
        {"path": ["Ada Lee/Ada Lee_12345.jpg", "Ada Lee/Ada Lee_00007.jpg", "Bo_2/Bo_2_3.png"]}
    )
    table = pair_lists.read_lfw_pairs(str(tmp_path / "pairs.txt"), images)
    assert table[["a", "b"]].to_numpy().tolist() == [
        ["Ada Lee/Ada Lee_12345.jpg", "Ada Lee/Ada Lee_00007.jpg"],
        ["Ada Lee/Ada Lee_00007.jpg", "Bo_2/Bo_2_3.png"],
    ]


@pytest.mark.parametrize(
    ("order", "folds"),
    [("GGII", [0, 0, 0, 0]), ("GIGI", [0, 0, 1, 1]), ("GGIG", [0] * 4), ("IGIG", [0] * 4)],
)
def test_folds_without_a_header_are_runs_of_one_length(tmp_path, order, folds):
    lines = {"G": "Al\t1\t2", "I": "Al\t1\tBo\t2"}
    table = read_lfw(tmp_path, "\n".join(lines[letter] for letter in order))
    assert table["fold"].tolist() == folds
    assert table["label"].tolist() == [int(letter == "G") for letter in order]


def write_cfp(folder):
    for view in ("frontal", "profile"):
        images = [f"{n} ../Data/Images/00{n}/{view}/01.jpg" for n in (1, 2)]
        (folder / f"Pair_list_{view[0].upper()}.txt").write_text("\r\n".join(images))
    for kind in ("FF", "FP"):
        for fold in ("01", "02"):
            (folder / "Split" / kind / fold).mkdir(parents=True)
            (folder / "Split" / kind / fold / "same.txt").write_text("1,1\n2,2\n")
            (folder / "Split" / kind / fold / "diff.txt").write_text("1,2\n2,1\n")
    return folder / "Split" / "FP"


CFP = pd.DataFrame(
    {"path": [f"00{n}/{view}/01.jpg" for n in (1, 2) for view in ("frontal", "profile")]}
)


def test_a_protocol_of_cfp_is_read_fold_by_fold(tmp_path):
    source = str(write_cfp(tmp_path))
    table = pair_lists.read(source, CFP, str(tmp_path), is_csv=False)
    assert table["label"].tolist() == [1, 1, 0, 0] * 2
    assert table["fold"].tolist() == [0] * 4 + [1] * 4
    assert table.iloc[6][["a", "b"]].tolist() == ["001/frontal/01.jpg", "002/profile/01.jpg"]
    assert pair_checks.place(table.iloc[6]) == f"{source}/02/diff.txt, line 1"
    aligned = CFP["path"].str.replace("001", "112x112/001")
    table = pair_lists.read_cfp_pairs(source, set(aligned))
    assert table["b"][0] == "001/profile/01.jpg"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Split/FP/01/same.txt", "1 1\n", "same.txt, line 1: '1 1' is not two numbers"),
        ("Split/FP/02/diff.txt", "1,2\n1,9\n", "diff.txt, line 2: '1,9' is not two numbers"),
        ("Pair_list_P.txt", "1\n", "Pair_list_P.txt, line 1: '1' is not 'number path'"),
    ],
)
def test_a_wrong_line_of_cfp_is_named(tmp_path, name, text, message):
    source = write_cfp(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        pair_lists.read_cfp_pairs(str(source), set())


def test_another_folder_is_no_list(tmp_path):
    (tmp_path / "FP").mkdir()
    for folder in (tmp_path, tmp_path / "FP"):
        with pytest.raises(UserError, match="is a folder: give a list in LFW's format"):
            pair_lists.read(str(folder), CFP, "x", is_csv=False)


def test_lines_of_two_paths_and_a_label_are_ten_folds(tmp_path):
    lines = [f"{n} old.jpg\t{n}.PNG {(1, -1, 0)[n % 3]}" for n in range(20)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    table = pair_lists.read(str(tmp_path / "pairs.txt"), CFP, "x", is_csv=False)
    assert table.iloc[3][["a", "b", "label", "line"]].tolist() == ["3 old.jpg", "3.PNG", 1, 4]
    assert table["label"].tolist()[:3] == [1, 0, 0] and table["fold"].tolist()[:4] == [0, 0, 1, 1]
    (tmp_path / "pairs.txt").write_text("a.jpg b.jpg 1\na.jpg b.jpg 2\n")
    with pytest.raises(UserError, match="line 2: 'a.jpg b.jpg 2' is not 'path path label'"):
        pair_lists.read(str(tmp_path / "pairs.txt"), CFP, "x", is_csv=False)
    (tmp_path / "pairs.txt").write_text("a.jpg ../b.jpg 1\n")
    with pytest.raises(UserError, match="line 1: '../b.jpg' leaves the images folder"):
        pair_lists.read(str(tmp_path / "pairs.txt"), CFP, "x", is_csv=False)


def test_a_protocol_of_agedb_is_read_fold_by_fold(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")

    def cell(values):
        array = np.empty((len(values), len(values[0])), object)
        for place in np.ndindex(array.shape):
            array[place] = values[place[0]][place[1]]
        return array

    def image(name):
        return {"name": name, "age": 40}

    folds = [
        [[image("Ada_1_x_2_f"), image("Ada_2_x_2_f")], [image("Ada_3_x_9_f"), image("Bo_4_x_2_m")]]
    ] * 2
    splits = cell([[{"split": cell(fold)}] for fold in folds])
    path = str(tmp_path / "protocol.mat")
    scipy_io.savemat(path, {"splits": splits})
    table = pair_lists.read(path, CFP, "x", is_csv=False)
    assert table[["a", "b", "label", "fold"]].to_numpy().tolist() == [
        ["Ada_1_x_2_f.jpg", "Ada_3_x_9_f.jpg", 1, 0],
        ["Ada_2_x_2_f.jpg", "Bo_4_x_2_m.jpg", 0, 0],
        ["Ada_1_x_2_f.jpg", "Ada_3_x_9_f.jpg", 1, 1],
        ["Ada_2_x_2_f.jpg", "Bo_4_x_2_m.jpg", 0, 1],
    ]
    scipy_io.savemat(path, {"other": 1})
    for damage in (None, b"MATLAB", b""):
        if damage is not None:
            (tmp_path / "protocol.mat").write_bytes(damage)
        with pytest.raises(UserError, match="protocol.mat is not a protocol of AgeDB"):
            pair_lists.read(path, CFP, "x", is_csv=False)


def test_blanks_around_a_path_count_only_where_a_file_has_them(tmp_path):
    (tmp_path / "pairs.csv").write_text("image_a,image_b,label\n a/1.jpg,b/1.jpg ,0\n")
    images = pd.DataFrame({"path": ["a/1.jpg", " a/1.jpg", "b/1.jpg"]})
    pairs = pair_lists.read(str(tmp_path / "pairs.csv"), images, str(tmp_path), is_csv=True)
    assert pairs[["a", "b"]].to_numpy().tolist() == [[" a/1.jpg", "b/1.jpg"]]
