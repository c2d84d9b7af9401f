import dataclasses

import pytest

from fv.conversion import report, report_page
from tests.conversion.test_report import facts  # noqa: F401
from tests.test_page import parse


@pytest.fixture
def content(facts):  # noqa: F811
    return report.build(facts)


def test_the_page_nests_and_is_the_same_again(content):
    text = report_page.render(content, b"one", b"two")
    parse(text)
    assert text == report_page.render(content, b"one", b"two")


def test_what_is_wrong_comes_before_what_is_there(content):
    found = parse(report_page.render(content)).text
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
    text = report_page.render(content)
    assert "The first 50 of 5,000 images left out; report.json lists up to 1,000" in text
    assert "49.jpg" in text and "50.jpg" not in text


def test_pictures_are_shown_where_there_are_some(content):
    assert "<img" not in report_page.render(content)
    assert report_page.render(content, b"one", b"two").count("<img") == 2


def test_names_from_the_file_system_cannot_become_markup(content):
    content["copies"]["two_identities"]["listed"][0]["first_path"] = (
        "<script>alert(1)</script>/1.jpg"
    )
    assert "<script" not in report_page.render(content)


def test_a_clean_data_set_says_so(facts):  # noqa: F811
    clean = dataclasses.replace(
        facts, copies=facts.copies.iloc[:0], left_out=facts.left_out.iloc[:0]
    )
    found = parse(report_page.render(report.build(clean))).text
    for line in (
        "No image was left out.",
        "No picture was found under two identities.",
        "No picture is there twice.",
    ):
        assert line in found
