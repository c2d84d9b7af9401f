import dataclasses
import json
import re

import pytest

from fv.conversion import convert, options, report, report_page
from tests.conversion import making
from tests.conversion.test_report import facts  # noqa: F401
from tests.test_page import parse


@pytest.fixture
def content(facts):  # noqa: F811
    return report.build(facts)


def test_the_page_nests_and_is_the_same_again(content):
    text = report_page.render_report(content, b"one", b"two")
    parse(text)
    assert text == report_page.render_report(content, b"one", b"two")


def test_what_is_wrong_comes_before_what_is_there(content):
    found = parse(report_page.render_report(content)).text
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


def test_every_list_is_shown_with_its_total(content):
    content["left_out"]["files"] = [
        {"path": f"{index}.jpg", "reason": "empty file"} for index in range(200)
    ]
    content["images"]["left_out"] = 5000
    text = report_page.render_report(content)
    assert "The first 50 of 5,000 images left out; report.json lists up to 1,000" in text
    assert "49.jpg" in text and "50.jpg" not in text


def test_pictures_are_shown_where_there_are_some(content):
    assert "<img" not in report_page.render_report(content)
    assert report_page.render_report(content, b"one", b"two").count("<img") == 2


def test_names_from_the_file_system_cannot_become_markup(content):
    content["copies"]["two_identities"]["listed"][0]["first_path"] = (
        "<script>alert(1)</script>/1.jpg"
    )
    assert "<script" not in report_page.render_report(content)


def test_a_clean_data_set_says_so(facts):  # noqa: F811
    clean = dataclasses.replace(
        facts, copies=facts.copies.iloc[:0], left_out=facts.left_out.iloc[:0]
    )
    found = parse(report_page.render_report(report.build(clean))).text
    for line in (
        "No image was left out.",
        "No picture was found under two identities.",
        "No picture is there twice.",
    ):
        assert line in found


def convert_crowd(tmp_path, **flags):
    images = making.crowd(tmp_path / "images", identities=20, images=4)
    (images / "p000" / "empty.jpg").write_bytes(b"")
    (images / "p007" / "copy.jpg").write_bytes((images / "p003" / "p003_0001.jpg").read_bytes())
    made, _ = convert.convert(
        options.ConvertOptions(str(images), str(tmp_path / "out"), workers=2, **flags)
    )
    page = (tmp_path / "out" / "report.html").read_text()
    return made, json.loads((tmp_path / "out" / "report.json").read_text()), page


def test_the_report_tells_what_was_kept_and_why_the_rest_was_not(tmp_path):
    made, report, page = convert_crowd(tmp_path)
    assert report["images"] == report["images"] | {"found": 82, "kept": 79, "left_out": 3}
    assert {entry["path"] for entry in report["left_out"]["files"]} == {
        "p000/empty.jpg",
        "p003/p003_0001.jpg",
        "p007/copy.jpg",
    }
    assert report["copies"]["two_identities"]["exact"] == 1
    assert {name: split["genuine"] for name, split in report["splits"].items()} == {
        name: split.genuine for name, split in made.splits.items()
    }
    assert "empty file" in page and "p007/copy.jpg" in page


def test_the_page_shows_pairs_and_suspects_and_needs_no_other_file(tmp_path):
    _, _, page = convert_crowd(tmp_path)
    assert page.count("data:image/jpeg;base64,") == 2
    assert not re.search(r'(?:src|href)="(?!data:|#)', page) and "url(" not in page


def test_kept_copies_are_reported_all_the_same(tmp_path):
    _, report, _ = convert_crowd(tmp_path, keep_duplicates=True, store_size=16)
    assert report["images"]["kept"] == 81
    assert report["copies"]["two_identities"]["exact"] == 1


def test_the_same_conversion_writes_the_same_report(tmp_path):
    for name in ("a", "b"):
        images = making.crowd(tmp_path / name / "images", identities=20, images=4)
        convert.convert(
            options.ConvertOptions(str(images), str(tmp_path / name / "out"), workers=2)
        )
    for name in ("report.json", "report.html"):
        assert (tmp_path / "a" / "out" / name).read_bytes() == (
            tmp_path / "b" / "out" / name
        ).read_bytes()
