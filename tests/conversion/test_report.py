import dataclasses
import json
import time

import numpy as np
import pandas as pd
import pytest

from fv import manifest
from fv.conversion import checking, duplicates, report

PATHS = ["ann/1.jpg", "ann/2.jpg", "ann/3.jpg", "bo/1.jpg", "bo/2.jpg", "cy/1.jpg", "di/1.jpg"]


def split(genuine, impostor, images, names):
    return manifest.Split(
        genuine, impostor, images, names, (manifest.Shard("x", genuine + impostor, 1000, ""),) * 2
    )


def copies(digests, identities, paths):
    hashes = np.random.default_rng(0).integers(
        0, 2**64, (20, checking.HASH_WORDS), dtype=np.uint64
    )[digests]
    found = duplicates.find_duplicates(
        np.array(digests, np.uint64), hashes, np.array(identities), 12
    )
    return duplicates.name_duplicates(found, np.array(paths, object))


@pytest.fixture
def facts():
    """Seven kept images of four people, four left out, and pairs in two splits."""
    images = pd.DataFrame(
        {"path": PATHS, "identity": pd.Categorical([path[:2] for path in PATHS])},
        index=range(10, 17),
    )
    images["identity"] = (
        images["identity"].cat.rename_categories({"an": "ann"}).cat.add_categories("nobody")
    )
    images["split"] = pd.Categorical(["train"] * 5 + ["test"] * 2)
    images = images.assign(
        width=[250, 250, 250, 92, 92, 64, 5000],
        height=[250, 250, 250, 112, 112, 64, 3000],
        bytes=100,
    )
    left_out = pd.DataFrame(
        {
            "path": ["ed/1.jpg", "bo/x.png", "bo/y.png", "stray.jpg"],
            "reason": [
                "empty file",
                "9000 × 9000 pixels",
                "12,000 × 9 pixels",
                "not in an identity's folder",
            ],
        }
    )
    tables = {
        "train": pd.DataFrame(
            {"a": [10, 11, 10, 11], "b": [11, 12, 13, 14], "label": [1, 1, 0, 0]}
        ),
        "test": pd.DataFrame({"a": [15], "b": [16], "label": [0]}),
    }
    splits = {"train": split(2, 2, 5, ("ann", "bo")), "test": split(0, 1, 2, ("cy", "di"))}
    found = copies([1, 1, 2, 2, 2, 3], [0, 0, 0, 1, 1, 2], PATHS[:6])
    return report.Facts(11, images, left_out, found, tables, manifest.Manifest(0, "", splits))


def test_the_report_is_plain_json(facts):
    made = report.build(facts)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert json.dumps(report.build(facts)) == json.dumps(made)


def test_images_and_splits_are_counted(facts):
    made = report.build(facts)
    assert made["images"] == {"found": 11, "kept": 7, "left_out": 4, "in_pairs": 7, "bytes": 700}
    assert made["splits"]["train"] == dict(
        identities=2, images=5, genuine=2, impostor=2, shards=2, bytes=2000
    )


def test_reasons_that_differ_by_numbers_and_paths_are_one_kind(facts):
    made = report.build(facts)["left_out"]
    assert [(row["kind"], row["files"], row["example"]) for row in made["reasons"]] == [
        ("N × N pixels", 2, "bo/x.png"),
        ("empty file", 1, "ed/1.jpg"),
        ("not in an identity's folder", 1, "stray.jpg"),
    ]
    assert [row["path"] for row in made["files"]] == [
        "bo/x.png",
        "bo/y.png",
        "ed/1.jpg",
        "stray.jpg",
    ]
    named = facts.left_out.assign(
        reason=[f"the same bytes as 'some one/{index}.jpg'" for index in range(4)]
    )
    assert report.build(dataclasses.replace(facts, left_out=named))["left_out"]["kinds"] == 1


def test_identities_without_a_kept_image_and_with_one_are_named(facts):
    made = report.build(facts)["identities"]
    assert (made["kept"], made["left_out_names"], made["of_one_image_names"]) == (
        4,
        ["ed"],
        ["cy", "di"],
    )
    assert (made["left_out"], made["of_one_image"]) == (1, 2)


def test_copies_are_set_apart_by_identity_and_likeness(facts):
    made = report.build(facts)["copies"]
    assert (made["groups"], made["largest_group"], made["images_under_two_identities"]) == (2, 3, 3)
    assert made["same_identity"]["exact"] == 1 and made["same_identity"]["near"] == 0
    assert [
        (row["first_path"], row["second_path"]) for row in made["two_identities"]["listed"]
    ] == [
        ("ann/3.jpg", "bo/1.jpg"),
        ("ann/3.jpg", "bo/2.jpg"),
    ]


def test_no_copy_and_nothing_left_out_is_a_report_too(facts):
    clean = dataclasses.replace(
        facts, copies=facts.copies.iloc[:0], left_out=facts.left_out.iloc[:0]
    )
    made = report.build(clean)
    assert (
        made["copies"]["groups"]
        == made["copies"]["largest_group"]
        == made["left_out"]["kinds"]
        == 0
    )
    assert made["identities"]["left_out_names"] == []


def test_histograms_hold_every_identity_and_image(facts):
    made = report.build(facts)
    assert made["images_per_identity"] == [
        {"from": 1, "to": 1, "identities": 2},
        {"from": 2, "to": 2, "identities": 1},
        {"from": 3, "to": 3, "identities": 1},
    ]
    sides = made["sizes"]["shorter_side"]
    assert (sides[0], sides[-1]) == (
        {"from": 64, "to": 95, "images": 3},
        {"from": 2048, "to": None, "images": 1},
    )
    assert sum(row["images"] for row in sides) == 7
    assert made["sizes"]["most_frequent"][0] == {"width": 250, "height": 250, "images": 3}


def test_pairs_are_counted_by_identity(facts):
    made = report.build(facts)["pairs_per_identity"]
    assert made["most"][0] == {"identity": "ann", "genuine": 2, "impostor": 2}
    assert {row["identity"]: row["impostor"] for row in made["most"]} == {
        "ann": 2,
        "bo": 2,
        "cy": 1,
        "di": 1,
    }
    assert made["in_none"] == 0
    unused = dataclasses.replace(facts, tables={"train": facts.tables["train"]})
    assert report.build(unused)["pairs_per_identity"]["in_none"] == 2


def test_lists_are_cut_and_their_totals_are_not(facts):
    many = pd.DataFrame(
        {"path": [f"p{index}/x.jpg" for index in range(3000)], "reason": "empty file"}
    )
    made = report.build(dataclasses.replace(facts, left_out=many))
    assert (
        len(made["left_out"]["files"]) == len(made["identities"]["left_out_names"]) == report.LISTED
    )
    assert made["images"]["left_out"] == made["identities"]["left_out"] == 3000


def test_half_a_million_images_take_seconds(facts):
    count = 500_000
    codes = np.arange(count) // 10
    images = pd.DataFrame(
        {
            "path": "x",
            "identity": pd.Categorical.from_codes(codes, [f"{n:06d}" for n in range(count // 10)]),
        }
    )
    images = images.assign(
        split=pd.Categorical(["train"] * count), width=100 + codes % 50, height=100, bytes=10
    )
    ends = np.random.default_rng(0).integers(0, count, (2, count))
    tables = {"train": pd.DataFrame({"a": ends[0], "b": ends[1], "label": 0})}
    start = time.monotonic()
    made = report.build(dataclasses.replace(facts, images=images, tables=tables))
    assert time.monotonic() - start < 10 and made["images_per_identity"] == [
        {"from": 10, "to": 19, "identities": 50_000}
    ]
