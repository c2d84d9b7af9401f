"""A self-contained HTML page: headings, tables, bars and pictures in one file that loads nothing else.

Every function returns HTML; every text given to one is escaped. The same content gives the same bytes.
"""

import base64
import html
from collections.abc import Sequence

_BAR_WIDTH, _ROW_HEIGHT = 360, 20  # units of the drawing, one unit being a pixel on a phone
_LABEL_WIDTH, _VALUE_WIDTH = 110, 70
_STYLE = """
:root { color-scheme: light dark }
:root { --ink: #1c1e21; --soft: #5d646c; --line: #d9dde2; --paper: #fff; --bar: #3a74b8; --alert: #a8320f }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --soft: #a2a9b1; --line: #3b4046; --paper: #17191c; --bar: #6fa4e0; --alert: #ff9a7a }
}
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --bar: #3a74b8; --alert: #a8320f }
  main { max-width: none; padding: 0 } figure, tr { break-inside: avoid } h2 { break-after: avoid }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.45 system-ui, sans-serif }
main { max-width: 46rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.5rem; margin: .5rem 0 }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line) }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem } p { margin: .5rem 0 }
.soft { color: var(--soft) } .alert { color: var(--alert); font-weight: 600 }
.wide { overflow-x: auto; margin: .5rem 0 } table { border-collapse: collapse; font-size: .9rem }
caption { text-align: left; color: var(--soft); padding-bottom: .25rem }
th { vertical-align: bottom }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line) }
td { vertical-align: top; overflow-wrap: anywhere; min-width: 3rem }
td.n { white-space: nowrap }
.n { text-align: right; font-variant-numeric: tabular-nums }
figure { margin: .75rem 0 } figcaption { color: var(--soft); font-size: .9rem }
figure img { max-width: 100%; height: auto } figure svg { width: 100%; max-width: 28rem; height: auto; font-size: 12px }
summary { cursor: pointer }
"""


class Written(str):
    """A number, or several, that is written already: it stands on the right of its cell and is never broken."""


def page(title: str, *parts: str) -> str:
    """A whole document of parts that the other functions made."""
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
    )
    body = "\n".join((f"<h1>{html.escape(title)}</h1>", *parts))
    return f"{head}<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"


def section(heading: str, *parts: str) -> str:
    """Parts below a heading of the second level; empty parts are left away."""
    inner = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{html.escape(heading)}</h2>\n{inner}\n</section>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; `kind` is '', 'soft' (an aside) or 'alert' (something to act on)."""
    return f"<p{_class(kind)}>{html.escape(text)}</p>"


def fold(summary: str, *parts: str) -> str:
    """Parts that show when their summary is clicked."""
    return (
        f"<details>\n<summary>{html.escape(summary)}</summary>\n"
        + "\n".join(parts)
        + "\n</details>"
    )


def table(
    header: Sequence[str], rows: Sequence[Sequence[str | int | float]], caption: str = ""
) -> str:
    """A table; ints get thousands separators, floats the digits they have; these and what is `Written` stand on the right.

    Args:
      header: heading of each column.
      rows: cells, a row for each.
      caption: what the table shows.
    """
    numeric = [bool(rows) and not _is_text(rows[0][column]) for column in range(len(header))]
    heads = zip(header, numeric, strict=True)
    top = "".join(
        f'<th scope="col"{_class("n" * right)}>{html.escape(text)}</th>' for text, right in heads
    )
    body = "\n".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    title = f"<caption>{html.escape(caption)}</caption>\n" if caption else ""
    return f'<div class="wide"><table>\n{title}<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def bars(labels: Sequence[str], values: Sequence[int | float], title: str) -> str:
    """Horizontal bars, one below the other, each with its label and value; a reader that speaks gets all as text.

    Args:
      labels: what each bar stands for.
      values: their lengths, 0 or more.
      title: what they show.
    """
    pairs = list(zip(labels, values, strict=True))
    longest = max(values, default=0) or 1
    drawn = "\n".join(_bar(row, label, value, longest) for row, (label, value) in enumerate(pairs))
    spoken = html.escape(
        f"{title}: " + "; ".join(f"{label}: {_number(value)}" for label, value in pairs)
    )
    frame = (
        f'viewBox="0 0 {_BAR_WIDTH} {_ROW_HEIGHT * len(pairs)}" role="img" aria-label="{spoken}"'
    )
    drawing = f'<svg {frame} fill="currentColor">\n{drawn}\n</svg>'
    return f"<figure>\n<figcaption>{html.escape(title)}</figcaption>\n{drawing}\n</figure>"


def image(data: bytes, alt: str, caption: str = "", kind: str = "jpeg") -> str:
    """A picture inside the page.

    Args:
      data: the file's bytes.
      alt: what it shows, for those who cannot see it.
      caption: text below it.
      kind: jpeg or png.
    """
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    below = f"\n<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure>\n<img src="{source}" alt="{html.escape(alt)}">{below}\n</figure>'


def _bar(row: int, label: str, value: int | float, longest: int | float) -> str:
    room = _BAR_WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
    length = max(room * value / longest, 1 if value else 0)
    top, middle = row * _ROW_HEIGHT + 3, row * _ROW_HEIGHT + 14
    name = (
        f'<text x="{_LABEL_WIDTH - 6}" y="{middle}" text-anchor="end">{html.escape(label)}</text>'
    )
    size = f'width="{length:.1f}" height="{_ROW_HEIGHT - 6}"'
    bar = f'<rect x="{_LABEL_WIDTH}" y="{top}" {size} fill="var(--bar)"/>'
    return (
        f'{name}{bar}<text x="{_LABEL_WIDTH + length + 5:.1f}" y="{middle}">{_number(value)}</text>'
    )


def _cell(value: str | int | float) -> str:
    return (
        f"<td>{html.escape(value)}</td>"
        if _is_text(value)
        else f'<td class="n">{_number(value)}</td>'
    )


def _is_text(value: str | int | float) -> bool:
    return isinstance(value, str) and not isinstance(value, Written)


def _number(value: Written | int | float) -> str:
    return html.escape(value) if isinstance(value, Written) else f"{value:,}"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
