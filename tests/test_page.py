import base64
import html.parser
import re

import pytest

from fv import page

MARKUP = "<b>Ann & 'Bo'</b> \"é\""
VOID = {"meta", "img"}


class Checker(html.parser.HTMLParser):
    """Notes the text and raises where tags do not nest."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.tags = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(text):
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return checker


PARTS = {
    "section": lambda: page.section(MARKUP, page.paragraph("x"), ""),
    "paragraph": lambda: page.paragraph(MARKUP, "alert"),
    "fold": lambda: page.fold(MARKUP, page.paragraph("x")),
    "table": lambda: page.table([MARKUP, "n"], [[MARKUP, 1], ["b", 2.5]], MARKUP),
    "bars": lambda: page.bars([MARKUP, "b"], [3, 0], MARKUP),
    "image": lambda: page.image(b"\xff\xd8", MARKUP, MARKUP),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_text_is_escaped_and_tags_nest(part):
    found = parse(page.page("title", part()))
    shown = "".join(found.text) + "".join(
        str(value) for _, attributes in found.tags for value in attributes.values()
    )
    assert MARKUP in shown and "b" not in {tag for tag, _ in found.tags}


def test_a_page_loads_nothing_and_is_the_same_again():
    parts = [part() for part in PARTS.values()]
    text = page.page("title", *parts)
    assert text == page.page("title", *parts)
    assert not re.search(r"""(src|href)=["'](?!data:)|url\(|@import|<script|http""", text)
    assert (
        '<meta charset="utf-8">' in text
        and "width=device-width" in text
        and "prefers-color-scheme: dark" in text
    )


def test_numbers_stand_on_the_right_with_separators():
    text = page.table(["name", "count"], [["a", 1234567], ["b", 2]])
    assert '<td class="n">1,234,567</td>' in text and '<th scope="col" class="n">count</th>' in text
    assert "<td>a</td>" in text and '<th scope="col">name</th>' in text


def test_bars_are_in_proportion_and_spoken():
    found = parse(page.bars(["one", "two", "none"], [1000, 500, 0], "people"))
    widths = [float(attributes["width"]) for tag, attributes in found.tags if tag == "rect"]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.1) and widths[2] == 0
    (drawing,) = (attributes for tag, attributes in found.tags if tag == "svg")
    assert (
        drawing["role"] == "img"
        and drawing["aria-label"] == "people: one: 1,000; two: 500; none: 0"
    )


def test_bars_and_tables_may_be_empty():
    parse(page.page("title", page.bars([], [], "none"), page.table(["a"], [])))


def test_a_picture_is_inside_the_page_and_described():
    (picture,) = (
        attributes
        for tag, attributes in parse(page.image(b"bytes", "a face", kind="png")).tags
        if tag == "img"
    )
    assert picture["alt"] == "a face"
    kind, data = picture["src"].split(",")
    assert kind == "data:image/png;base64" and base64.b64decode(data) == b"bytes"
