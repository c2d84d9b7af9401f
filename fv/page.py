"""Renders templates: HTML pages that load no other file, and Markdown."""

import base64
import functools

import jinja2


def render(template: str, **content: object) -> str:
    """Renders a template; the same content gives the same bytes.

    Args:
      template: name of a file in `fv/templates`.
      content: variables of the template; every text in a page is escaped.
    """
    return environment().get_template(template).render(content)


@functools.cache
def environment() -> jinja2.Environment:
    """The templates with their filters; an undefined variable is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("fv"),
        autoescape=_is_page,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"data_uri": _data_uri, "many": many, "thousands": "{:,}".format}
    return made


def many(count: int, noun: str) -> str:
    """A count with its noun in the right number, such as '1 identity' or '1,200 images'."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def _is_page(template: str | None) -> bool:
    return template is None or not template.endswith(".md")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
