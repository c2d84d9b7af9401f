import base64
import html.parser
import re

import jinja2
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


def part(source, **values):
    """Renders a use of the macros in parts.html."""
    start = '{% import "parts.html" as parts %}'
    return page.environment().from_string(start + source).render(values)


def whole(source, **values):
    """Renders a page whose content is a use of the macros."""
    start = '{% extends "base.html" %}{% import "parts.html" as parts %}{% block content %}'
    template = page.environment().from_string(start + source + "{% endblock %}")
    return template.render(values, title="title")


PARTS = {
    "fold": "{% call parts.fold(text) %}<p>{{ text }}</p>{% endcall %}",
    "table": "{% call(row) parts.table([text, 'n'], [[text, 1], ['b', 2.5]], text, [1]) %}"
    "{{ parts.cell(row[0]) }}{{ parts.cell(row[1]) }}{% endcall %}",
    "bars": "{{ parts.bars([(text, 3), ('b', 0)], text) }}",
    "image": "{{ parts.image(data, text, text) }}",
}


@pytest.mark.parametrize("source", PARTS.values(), ids=PARTS)
def test_text_is_escaped_and_tags_nest(source):
    found = parse(whole(source, text=MARKUP, data=b"\xff\xd8"))
    shown = "".join(found.text) + "".join(
        str(value) for _, attributes in found.tags for value in attributes.values()
    )
    assert MARKUP in shown and "b" not in {tag for tag, _ in found.tags}


def test_a_page_loads_nothing_and_is_the_same_again():
    source, values = "".join(PARTS.values()), {"text": MARKUP, "data": b"\xff\xd8"}
    text = whole(source, **values)
    assert text == whole(source, **values)
    assert not re.search(r"""(src|href)=["'](?!data:)|url\(|@import|<script|http""", text)
    assert (
        '<meta charset="utf-8">' in text
        and "width=device-width" in text
        and "prefers-color-scheme: dark" in text
    )


def test_no_template_switches_escaping_off():
    environment = page.environment()
    for name in environment.list_templates():
        source, _, _ = environment.loader.get_source(environment, name)
        assert not re.search(r"\|\s*safe\b|autoescape", source), name


def test_a_variable_that_is_not_given_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        page.render("base.html")


def test_numbers_stand_on_the_right_with_separators():
    text = part(
        "{% call(row) parts.table(['name', 'count'], [['a', 1234567], ['b', 2]], right=[1]) %}"
        "{{ parts.cell(row[0]) }}{{ parts.cell(row[1]) }}{% endcall %}"
    )
    assert '<td class="n">1,234,567</td>' in text and '<th scope="col" class="n">count</th>' in text
    assert "<td>a</td>" in text and '<th scope="col">name</th>' in text


def test_bars_are_in_proportion_and_spoken():
    pairs = [("one", 1000), ("two", 500), ("none", 0)]
    found = parse(part("{{ parts.bars(pairs, 'people') }}", pairs=pairs))
    widths = [float(attributes["width"]) for tag, attributes in found.tags if tag == "rect"]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.1) and widths[2] == 0
    (drawing,) = (attributes for tag, attributes in found.tags if tag == "svg")
    assert (
        drawing["role"] == "img"
        and drawing["aria-label"] == "people: one: 1,000; two: 500; none: 0"
    )


def test_bars_and_tables_may_be_empty():
    parse(whole("{{ parts.bars([], 'none') }}{% call(row) parts.table(['a'], []) %}x{% endcall %}"))


def test_a_picture_is_inside_the_page_and_described():
    source = "{{ parts.image(data, 'a face', kind='png') }}"
    (picture,) = (
        attributes for tag, attributes in parse(part(source, data=b"bytes")).tags if tag == "img"
    )
    assert picture["alt"] == "a face"
    kind, data = picture["src"].split(",")
    assert kind == "data:image/png;base64" and base64.b64decode(data) == b"bytes"
