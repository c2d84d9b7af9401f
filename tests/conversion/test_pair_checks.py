import pandas as pd
import pytest

from fv.conversion import pair_checks
from fv.errors import UserError

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
    used = pair_checks.select_images(table(("b/2.jpg", "b/1.jpg", 1)), LISTED, NONE, "list")
    assert list(used["path"]) == ["b/1.jpg", "b/2.jpg"]
    assert list(used.index) == [0, 1]
    assert list(used["identity"].cat.categories) == ["b"]


def test_pairs_become_indices_in_their_order():
    pairs = table(("b/2.jpg", "b/1.jpg", 1), ("a/1.jpg", "b/1.jpg", 0))
    assert pair_checks.pairs_to_indices(pairs, LISTED, NONE, "list").to_numpy().tolist() == [
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
        pair_checks.select_images(table(*rows), LISTED, NONE, "list")


def test_a_bad_image_is_named_with_its_line_and_reason():
    bad = pd.DataFrame({"path": ["b/1.jpg"], "reason": ["empty file"]})
    with pytest.raises(UserError, match="list, line 2: b/1.jpg: empty file; mend"):
        pair_checks.pairs_to_indices(
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
        pair_checks.select_images(table((path, "a/2.jpg", 0)), images, NONE, "list")
    said = str(refused.value).partition("did you mean ")[2]
    assert said.startswith((f"{near}?", f"{near},"))
    label = int(near.startswith("a/"))
    assert near in list(
        pair_checks.select_images(table((near, "a/2.jpg", label)), images, NONE, "list")["path"]
    )


def test_letters_that_differ_in_their_unicode_form_alone_are_said_to():
    said = pair_checks.suggest_paths(
        ["Zoe\u0308/1.jpg", "Zo\u00eb/2.jpg"], ["Zo\u00eb/1.jpg", "Zoe\u0308/2.jpg"]
    )
    assert "the same letters in the Unicode form NFC" in said["Zoe\u0308/1.jpg"]
    assert "the same letters in the Unicode form NFD" in said["Zo\u00eb/2.jpg"]


def test_a_name_that_may_be_several_others_offers_none():
    assert pair_checks.suggest_paths(["1.jpg", "c/9.jpg"], ["a/1.jpg", "b/1.jpg"]) == {}
