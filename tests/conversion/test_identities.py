import unicodedata

import pandas as pd
import pytest

from fv import cli, make_tfrecords, manifest, record
from fv.conversion import identities, options
from fv.errors import UserError
from tests.conversion import making

ALL_TRAIN = ("--val_fraction=0", "--test_fraction=0", "--workers=1")


def table(*folders, images=2, level=1):
    """A catalog's images: so many in each folder."""
    paths = [f"{folder}/{index}.jpg" for folder in folders for index in range(images)]
    naming = identities.Naming(level)
    return pd.DataFrame(
        {"path": paths, "identity": pd.Categorical([naming.identity_of(path) for path in paths])}
    )


def check(images, level=None, merge_names=None):
    naming = identities.Naming(level or 1)
    return identities.check(images, level, merge_names, "--images=faces", naming)


def people(count, above=""):
    return [f"{above}p{index:03d}" for index in range(count)]


def nested(tmp_path, *groups, each=3):
    """`each` people of three images in each of the groups' folders, none in two groups."""
    for number, group in enumerate(groups):
        (tmp_path / group).mkdir(parents=True)
        making.people(
            tmp_path / group,
            seed=100 * number,
            **{f"n{number}{index:02d}": 3 for index in range(each)},
        )
    return tmp_path


def run(capsys, *flags):
    """(exit code, stdout, stderr) of the converter with these flags."""
    with pytest.raises(SystemExit) as exited:
        cli.run(make_tfrecords.main, options.ConvertOptions, argv=["fv-make-tfrecords", *flags])
    return exited.value.code or 0, *capsys.readouterr()


@pytest.mark.parametrize(
    "folders",
    [
        [*people(4, "train/"), *people(3, "test/")],
        ["train/Anna", "test/Bob"],
        [*people(3, "Train_Set/"), *people(3, "valid-set/")],
        [*people(2, "fold1/"), *people(2, "fold2/"), *people(2, "fold3/")],
        [*people(6), "test/Anna", "test/Bob"],
        ["train", "test"],
        [*people(20, "a/"), *people(30, "b/")],
        [*people(200, "extra/"), "Anna", "Bob"],
        [*people(5, "actors/images/"), *people(5, "actresses/images/")],
        [*people(3, "lfw_train/"), *people(3, "lfw_test/")],
        [*people(3, "trainset/"), *people(3, "testset/")],
    ],
)
def test_folders_that_cannot_be_people_are_refused(folders):
    with pytest.raises(UserError, match=r"--images=faces: .*identity_level=1"):
        check(table(*folders))
    assert check(table(*folders), level=1) == ()


@pytest.mark.parametrize(
    ("folders", "level"),
    [
        ([*people(4, "train/"), *people(3, "test/")], 2),
        ([*people(20, "a/"), *people(30, "b/")], 2),
        ([*people(5, "actors/images/"), *people(5, "actresses/images/")], 3),
        ([*people(5, "data/train/"), *people(5, "data/test/")], 3),
        (["train/p0/a", "train/p1/a", "test/p2/a", "test/p3/b"], 2),
        (["train", "test"], None),
        (people(5), None),
    ],
)
def test_the_level_that_is_suggested_is_where_people_may_be(folders, level):
    assert identities.suggest_level(table(*folders), 1) == level


@pytest.mark.parametrize(
    "folders",
    [
        people(3),
        people(20),
        ["Anna Lee", "Anna Leigh", "Ann Lee", "an-na lee"],
        ["1", "2", "11", "1 2"],
        ["test1", "test2", "test3"],
        ["Jean Luc", "Jeanluc"],
        ["m.0107_f", "m.0107f"],
        ["Zoë", "Zoe Bell"],
    ],
)
def test_flat_folders_of_people_are_taken_without_a_word(folders):
    assert check(table(*folders)) == ()


def test_sessions_in_the_folders_of_people_are_taken_with_a_warning():
    sessions = [f"{person}/session{number}" for person in people(30) for number in range(6)]
    (warned,) = check(table(*sessions))
    assert "360 images 2 folders deep" in str(warned) and "--identity_level=1" in str(warned)
    assert check(table(*sessions), level=1) == ()


def test_images_at_different_depths_are_counted_in_a_warning():
    (warned,) = check(table("Anna", "Bob", "Bob/glasses"))
    assert (
        warned.seen
        == "4 images 1 folder deep, 2 images 2 folders deep (for example in Bob/glasses)"
    )


def test_few_identities_of_very_many_images_are_warned_of():
    (warned,) = check(table("00", "01", "02", images=600))
    assert "3 identities with 600 images on average" in str(warned) and "--identity_level=1" in str(
        warned
    )
    assert check(table("00", "01", "02", images=100)) == ()


def test_a_folder_for_unknown_people_is_warned_of():
    (warned,) = check(table("Anna", "Bob", "unknown"))
    assert "'unknown'" in warned.seen


@pytest.mark.parametrize(
    "names",
    [
        ("Anna_Lee", "anna lee"),
        ("Anna-Lee", "Anna_Lee"),
        ("Bob", "Bob "),
        ("Zoë", unicodedata.normalize("NFD", "Zoë")),
        ("STRASSE", "straße"),
        ("Ａnna", "Anna"),
        ("An\u200bna", "Anna"),
    ],
)
def test_names_that_differ_only_in_how_they_are_written_are_refused(names):
    with pytest.raises(
        UserError, match="1 name written in several ways.*--merge_names.*--nomerge_names"
    ):
        check(table(*names, "Cy"))
    assert check(table(*names, "Cy"), merge_names=False) == ()
    assert len({identities.join_names([*names, "Cy"])[name] for name in names}) == 1


def test_names_whose_difference_is_invisible_are_shown_by_their_codes():
    with pytest.raises(UserError, match=r"'Zoe\\u0308' and 'Zo\\xeb'"):
        check(table("Zoë", unicodedata.normalize("NFD", "Zoë")))


def test_names_that_differ_in_an_accent_are_warned_of_and_never_joined():
    (warned,) = check(table("Peña", "Pena"))
    assert "accents" in warned.seen and not warned.certain
    assert identities.join_names(["Peña", "Pena"]) == {}


def test_numbers_that_differ_in_leading_zeros_are_warned_of():
    (warned,) = check(table("7", "007", "m.0a1", "m.a1", "17"))
    assert "1 number written with and without leading zeros, such as '007' and '7'" in str(warned)
    assert check(table("7", "007"), merge_names=False) == ()


def test_hundred_folders_of_thousands_of_images_are_warned_of():
    (warned,) = check(table(*(f"{index:02d}" for index in range(100)), images=600))
    assert "100 identities with 600 images on average" in str(warned)


def test_the_folders_above_a_level_do_not_matter():
    naming = identities.Naming(2, {"anna lee": "Anna_Lee"})
    assert [
        naming.identity_of(path) for path in ("a/Bob/x/1.jpg", "b/anna lee/1.jpg", "b/1.jpg")
    ] == ["Bob", "Anna_Lee", ""]


def test_splits_above_the_people_end_the_converter_with_code_2(tmp_path, capsys):
    root = nested(tmp_path / "faces", "train", "test")
    flags = (f"--images={root}", f"--output={tmp_path / 'out'}", *ALL_TRAIN)
    code, out, err = run(capsys, *flags)
    assert (code, out) == (2, "") and len(err.splitlines()) == 1
    assert (
        "named 'test', 'train'" in err
        and "--identity_level=2" in err
        and "--identity_level=1" in err
    )


@pytest.mark.parametrize(
    ("level", "names"),
    [(1, {"train", "test"}), (2, {"n000", "n001", "n002", "n100", "n101", "n102"})],
)
def test_either_level_that_the_refusal_names_works(tmp_path, capsys, level, names):
    root = nested(tmp_path / "faces", "train", "test")
    flags = (
        f"--images={root}",
        f"--output={tmp_path / 'out'}",
        *ALL_TRAIN,
        f"--identity_level={level}",
    )
    assert run(capsys, *flags)[0] == 0
    made = manifest.load(str(tmp_path / "out"))
    assert set(made.split("train").identities) == names
    for pair in making.pairs(tmp_path / "out"):
        owners = [pair[f"image_{side}/path"].decode().split("/")[level - 1] for side in "ab"]
        assert [pair[record.IDENTITY_A].decode(), pair[record.IDENTITY_B].decode()] == owners
        assert pair[record.LABEL] == (owners[0] == owners[1])


def test_a_person_below_two_folders_is_one_identity_and_that_is_said(tmp_path, capsys):
    for group in ("train", "test"):
        making.people(tmp_path / "faces" / group, seed=ord(group[1]), Anna=2, Bob=2)
    code, _, err = run(
        capsys,
        f"--images={tmp_path / 'faces'}",
        f"--output={tmp_path / 'out'}",
        *ALL_TRAIN,
        "--identity_level=2",
    )
    assert (
        code == 0
        and "2 identities joined from several folders, such as 'Anna' from "
        "'test/Anna', 'train/Anna'"
        in err
    )
    assert manifest.load(str(tmp_path / "out")).split("train").identities == ("Anna", "Bob")
    assert manifest.load(str(tmp_path / "out")).split("train").images == 8


def test_merged_names_are_one_identity_in_splits_records_and_report(tmp_path, capsys):
    root = making.people(tmp_path / "faces", **{"Anna_Lee": 2, "anna lee": 2, "Bob": 2})
    flags = (f"--images={root}", f"--output={tmp_path / 'out'}", *ALL_TRAIN)
    code, _, err = run(capsys, *flags)
    assert code == 2 and "'Anna_Lee' and 'anna lee'" in err
    code, _, err = run(capsys, *flags, "--merge_names")
    assert (
        code == 0
        and "such as 'Anna_Lee' from 'Anna_Lee', 'anna lee'" in err
        and "give --nomerge_names if" in err
    )
    assert manifest.load(str(tmp_path / "out")).split("train").identities == ("Anna_Lee", "Bob")
    ends = {b"Anna_Lee/Anna_Lee_0001.jpg", b"anna lee/anna lee_0001.jpg"}
    (pair,) = [
        pair
        for pair in making.pairs(tmp_path / "out")
        if {pair[record.PATH_A], pair[record.PATH_B]} == ends
    ]
    assert (pair[record.IDENTITY_A], pair[record.IDENTITY_B]) == (b"Anna_Lee", b"Anna_Lee")
    assert pair[record.LABEL] == record.GENUINE
    assert "Anna_Lee" in (tmp_path / "out" / "report.html").read_text()
    assert run(capsys, *flags, "--nomerge_names", "--overwrite")[0] == 0
    assert manifest.load(str(tmp_path / "out")).split("train").identities == (
        "Anna_Lee",
        "Bob",
        "anna lee",
    )


def test_a_list_over_splits_above_the_people_is_checked_too(tmp_path, capsys):
    root = nested(tmp_path / "faces", "train", "test")
    pairs = tmp_path / "pairs.csv"
    first, second = "train/n000/n000_0001.jpg", "train/n001/n001_0001.jpg"
    pairs.write_text(
        f"image_a,image_b,label\n{first},{second},0\n{first},train/n000/n000_0002.jpg,1\n"
    )
    flags = (
        f"--images={root}",
        f"--output={tmp_path / 'out'}",
        f"--pairs_csv={pairs}",
        "--workers=1",
    )
    code, _, err = run(capsys, *flags)
    assert code == 2 and "--identity_level=2" in err
    assert run(capsys, *flags, "--identity_level=2")[0] == 0
    found = sorted(
        (pair[record.LABEL], pair[record.IDENTITY_B])
        for pair in making.pairs(tmp_path / "out", "test")
    )
    assert found == [(0, b"n001"), (1, b"n000")]


def test_a_list_in_lfw_s_format_finds_people_at_another_level(tmp_path, capsys):
    root = nested(tmp_path / "faces", "train", "test")
    (tmp_path / "pairs.txt").write_text("1\nn000\t1\t2\nn000\t1\tn100\t3\n")
    flags = (
        f"--images={root}",
        f"--output={tmp_path / 'out'}",
        f"--pairs_file={tmp_path / 'pairs.txt'}",
        "--workers=1",
    )
    code, _, err = run(capsys, *flags)
    assert code == 2 and "--identity_level=2" in err
    assert run(capsys, *flags, "--identity_level=2")[0] == 0
    assert manifest.load(str(tmp_path / "out")).split("test").identities == ("n000", "n100")


def test_names_in_a_list_are_checked_among_those_that_it_uses(tmp_path, capsys):
    root = making.people(tmp_path / "faces", **{"Anna_Lee": 2, "anna lee": 2, "Bob": 2})
    (tmp_path / "pairs.txt").write_text("1\nBob\t1\t2\nBob\t1\tanna lee\t1\n")
    flags = (f"--images={root}", f"--pairs_file={tmp_path / 'pairs.txt'}", "--workers=1")
    assert run(capsys, *flags, f"--output={tmp_path / 'one'}")[0] == 0
    (tmp_path / "pairs.txt").write_text("1\nBob\t1\t2\nAnna_Lee\t1\tanna lee\t1\n")
    code, _, err = run(capsys, *flags, f"--output={tmp_path / 'two'}")
    assert code == 2 and "--merge_names" in err


def test_a_note_on_names_in_a_table_says_what_to_do():
    assert identities.note_names(["Anna", "Bob"]) == ""
    assert "1 name written in several ways" in identities.note_names(["Anna", "anna ", "Bob"])
