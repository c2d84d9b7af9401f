import dataclasses
import json
import re
import time

import numpy as np
import pandas as pd
import pytest

from fv import manifest
from fv.conversion import (
    checking,
    convert,
    datasets,
    duplicates,
    folders,
    identities,
    options,
    report,
)
from fv.conversion.pairs import Selection
from tests.conversion import making
from tests.test_page import parse

PATHS = ["ann/1.jpg", "ann/2.jpg", "ann/3.jpg", "bo/1.jpg", "bo/2.jpg", "cy/1.jpg", "di/1.jpg"]
LEFT_OUT = {
    "ed/1.jpg": "empty file",
    "bo/x.png": "9000 × 9000 pixels",
    "bo/y.png": "12,000 × 9 pixels",
    "stray.jpg": "not in an identity's folder",
}


def split(genuine, impostor, images, names):
    shard = manifest.Shard("x", genuine + impostor, 1000, "")
    return manifest.Split(genuine, impostor, images, names, (shard,) * 2)


CATALOG = datasets.Catalog(
    pd.DataFrame({"path": PATHS}),
    pd.DataFrame(LEFT_OUT.items(), columns=["path", "reason"]),
    folders.count("", ()),
    identities.Naming(),
)
SPLITS = {"train": split(2, 2, 5, ("ann", "bo")), "test": split(0, 1, 2, ("cy", "di"))}
MADE = manifest.Manifest(0, "", SPLITS)


def copies(digests, identities, paths):
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, (20, checking.HASH_WORDS), dtype=np.uint64)[digests]
    digests = np.array(digests, np.uint64)
    found = duplicates.find_duplicates(digests, hashes, np.array(identities), 12)
    return duplicates.name_duplicates(found, pd.Series(paths, dtype=object))


@pytest.fixture
def selection():
    """Seven kept images of four people, four left out, and pairs in two splits."""
    names = pd.Categorical([path.split("/")[0] for path in PATHS])
    images = pd.DataFrame(
        {
            "path": PATHS,
            "identity": names.add_categories("nobody"),
            "split": pd.Categorical(["train"] * 5 + ["test"] * 2),
            "width": [250, 250, 250, 92, 92, 64, 5000],
            "height": [250, 250, 250, 112, 112, 64, 3000],
            "bytes": 100,
        },
        index=range(10, 17),
    )
    tables = {
        "train": pd.DataFrame(
            {"a": [10, 11, 10, 11], "b": [11, 12, 13, 14], "label": [1, 1, 0, 0]}
        ),
        "test": pd.DataFrame({"a": [15], "b": [16], "label": [0]}),
    }
    found = copies([1, 1, 2, 2, 2, 3], [0, 0, 0, 1, 1, 2], PATHS[:6])
    return Selection(images, tables, CATALOG.unusable, found)


def build(selection, **changes):
    return report.build(CATALOG, dataclasses.replace(selection, **changes), MADE)


def build_clean(selection):
    return build(selection, copies=selection.copies.iloc[:0], left_out=selection.left_out.iloc[:0])


def test_the_report_is_plain_json(selection):
    made = build(selection)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert json.dumps(build(selection)) == json.dumps(made)


def test_images_and_splits_are_counted(selection):
    made = build(selection)
    assert made["images"] == {"found": 11, "kept": 7, "left_out": 4, "in_pairs": 7, "bytes": 700}
    assert made["splits"]["train"] == dict(
        identities=2, images=5, genuine=2, impostor=2, shards=2, bytes=2000
    )


def test_reasons_that_differ_by_numbers_and_paths_are_one_kind(selection):
    made = build(selection)["left_out"]
    assert [(row["kind"], row["files"], row["example"]) for row in made["reasons"]] == [
        ("N × N pixels", 2, "bo/x.png"),
        ("empty file", 1, "ed/1.jpg"),
        ("not in an identity's folder", 1, "stray.jpg"),
    ]
    assert [row["path"] for row in made["files"]] == sorted(LEFT_OUT)
    reasons = [f"the same bytes as 'some one/{index}.jpg'" for index in range(4)]
    named = selection.left_out.assign(reason=reasons)
    assert build(selection, left_out=named)["left_out"]["kinds"] == 1


def test_identities_without_a_kept_image_and_with_one_are_named(selection):
    made = build(selection)["identities"]
    assert (made["left_out"], made["of_one_image"], made["kept"]) == (1, 2, 4)
    assert made["left_out_names"] == ["ed"]
    assert made["of_one_image_names"] == ["cy", "di"]


def test_copies_are_set_apart_by_identity_and_likeness(selection):
    made = build(selection)["copies"]
    assert (made["groups"], made["largest_group"], made["images_under_two_identities"]) == (2, 3, 3)
    assert made["same_identity"]["exact"] == 1 and made["same_identity"]["near"] == 0
    listed = made["two_identities"]["listed"]
    assert [(row["first_path"], row["second_path"]) for row in listed] == [
        ("ann/3.jpg", "bo/1.jpg"),
        ("ann/3.jpg", "bo/2.jpg"),
    ]


def test_no_copy_and_nothing_left_out_is_a_report_too(selection):
    made = build_clean(selection)
    assert made["copies"]["groups"] == made["copies"]["largest_group"] == 0
    assert made["left_out"]["kinds"] == 0
    assert made["identities"]["left_out_names"] == []


def test_histograms_hold_every_identity_and_image(selection):
    made = build(selection)
    assert made["images_per_identity"] == [
        {"from": 1, "to": 1, "identities": 2},
        {"from": 2, "to": 2, "identities": 1},
        {"from": 3, "to": 3, "identities": 1},
    ]
    sides = made["sizes"]["shorter_side"]
    assert sides[0] == {"from": 64, "to": 95, "images": 3}
    assert sides[-1] == {"from": 2048, "to": None, "images": 1}
    assert sum(row["images"] for row in sides) == 7
    assert made["sizes"]["most_frequent"][0] == {"width": 250, "height": 250, "images": 3}


def test_pairs_are_counted_by_identity(selection):
    made = build(selection)["pairs_per_identity"]
    assert made["most"][0] == {"identity": "ann", "genuine": 2, "impostor": 2}
    impostors = {row["identity"]: row["impostor"] for row in made["most"]}
    assert impostors == {"ann": 2, "bo": 2, "cy": 1, "di": 1}
    assert made["in_none"] == 0
    train_only = {"train": selection.tables["train"]}
    assert build(selection, tables=train_only)["pairs_per_identity"]["in_none"] == 2


def test_lists_are_cut_and_their_totals_are_not(selection):
    paths = [f"p{index}/x.jpg" for index in range(3000)]
    many = pd.DataFrame({"path": paths, "reason": "empty file"})
    made = build(selection, left_out=many)
    assert len(made["left_out"]["files"]) == report.LISTED
    assert len(made["identities"]["left_out_names"]) == report.LISTED
    assert made["images"]["left_out"] == made["identities"]["left_out"] == 3000


def test_half_a_million_images_take_seconds(selection):
    count = 500_000
    codes = np.arange(count) // 10
    names = [f"{number:06d}" for number in range(count // 10)]
    images = pd.DataFrame(
        {
            "path": "x",
            "identity": pd.Categorical.from_codes(codes, names),
            "split": pd.Categorical(["train"] * count),
            "width": 100 + codes % 50,
            "height": 100,
            "bytes": 10,
        }
    )
    ends = np.random.default_rng(0).integers(0, count, (2, count))
    tables = {"train": pd.DataFrame({"a": ends[0], "b": ends[1], "label": 0})}
    start = time.monotonic()
    made = build(selection, images=images, tables=tables)
    assert time.monotonic() - start < 10
    assert made["images_per_identity"] == [{"from": 10, "to": 19, "identities": 50_000}]


def test_the_page_nests_and_is_the_same_again(selection):
    content = build(selection)
    text = report.render(content, b"one", b"two")
    parse(text)
    assert text == report.render(content, b"one", b"two")


def test_what_is_wrong_comes_before_what_is_there(selection):
    found = parse(report.render(build(selection))).text
    order = [
        "Left out",
        "One picture, two identities",
        "Copies within one identity",
        "Identities",
        "Sizes",
        "Pairs",
    ]
    places = [found.index(heading) for heading in order]
    assert places == sorted(places)
    assert "3 images found under two identities: a label is likely wrong." in found


def test_every_list_is_shown_with_its_total(selection):
    content = build(selection)
    content["left_out"]["files"] = [
        {"path": f"{index}.jpg", "reason": "empty file"} for index in range(200)
    ]
    content["images"]["left_out"] = 5000
    text = report.render(content)
    assert "The first 50 of 5,000 images left out; report.json lists up to 1,000" in text
    assert "49.jpg" in text and "50.jpg" not in text


def test_pictures_are_shown_where_there_are_some(selection):
    assert "<img" not in report.render(build(selection))
    assert report.render(build(selection), b"one", b"two").count("<img") == 2


def test_names_from_the_file_system_cannot_become_markup(selection):
    content = build(selection)
    suspect = content["copies"]["two_identities"]["listed"][0]
    suspect["first_path"] = "<script>alert(1)</script>/1.jpg"
    assert "<script" not in report.render(content)


def test_a_clean_data_set_says_so(selection):
    found = parse(report.render(build_clean(selection))).text
    assert "No image was left out." in found
    assert "No picture was found under two identities." in found
    assert "No picture is there twice." in found


def convert_crowd(tmp_path, **flags):
    images = making.crowd(tmp_path / "images", identities=20, images=4)
    (images / "p000" / "empty.jpg").write_bytes(b"")
    (images / "p007" / "copy.jpg").write_bytes((images / "p003" / "p003_0001.jpg").read_bytes())
    chosen = options.ConvertOptions(str(images), str(tmp_path / "out"), workers=2, **flags)
    made, _ = convert.convert(chosen)
    page = (tmp_path / "out" / "report.html").read_text()
    return made, json.loads((tmp_path / "out" / "report.json").read_text()), page


def test_the_report_tells_what_was_kept_and_why_the_rest_was_not(tmp_path):
    made, content, page = convert_crowd(tmp_path)
    assert content["images"] == content["images"] | {"found": 82, "kept": 79, "left_out": 3}
    assert {entry["path"] for entry in content["left_out"]["files"]} == {
        "p000/empty.jpg",
        "p003/p003_0001.jpg",
        "p007/copy.jpg",
    }
    assert content["copies"]["two_identities"]["exact"] == 1
    assert {name: split["genuine"] for name, split in content["splits"].items()} == {
        name: split.genuine for name, split in made.splits.items()
    }
    assert "empty file" in page and "p007/copy.jpg" in page


def test_the_page_shows_pairs_and_suspects_and_needs_no_other_file(tmp_path):
    _, _, page = convert_crowd(tmp_path)
    assert page.count("data:image/jpeg;base64,") == 2
    assert not re.search(r'(?:src|href)="(?!data:|#)', page) and "url(" not in page


def test_kept_copies_are_reported_all_the_same(tmp_path):
    _, content, _ = convert_crowd(tmp_path, keep_duplicates=True, store_size=16)
    assert content["images"]["kept"] == 81
    assert content["copies"]["two_identities"]["exact"] == 1


def test_the_same_conversion_writes_the_same_report(tmp_path):
    for name in ("a", "b"):
        images = making.crowd(tmp_path / name / "images", identities=20, images=4)
        output = tmp_path / name / "out"
        convert.convert(options.ConvertOptions(str(images), str(output), workers=2))
    for name in ("report.json", "report.html"):
        first, second = (tmp_path / run / "out" / name for run in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
