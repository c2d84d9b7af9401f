"""Contact sheets: many images in one picture, for a person to judge."""

import dataclasses
import functools
import importlib.util
import io
import os
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from fv import record
from fv.conversion import pair_sampling


def tile(images: Sequence[np.ndarray], columns: int, gap: int = 2) -> np.ndarray:
    """Arranges images of one size in rows, from left to right and top to bottom.

    Args:
      images: at least one, each (height, width, 3) uint8.
      columns: images in a row.
      gap: white pixels between two images.

    Returns:
      The sheet, (height, width, 3) uint8.
    """
    height, width, channels = images[0].shape
    columns, rows = min(columns, len(images)), -(-len(images) // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    sheet = np.full(shape, 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


# A contact sheet: pairs of images with their labels and names, for a person to judge.

_GAP, _PAIR_GAP, _MARGIN = 3, 18, 14  # pixels: within a pair, between pairs, around the sheet
_TEXT, _HEADING = 11, 15  # pixels
_LINE = 16  # pixels from one line of text to the next
_PAPER, _INK, _EMPTY = (255, 255, 255), (40, 42, 46), (226, 229, 233)
_COLOURS = {record.GENUINE: (24, 112, 62), record.IMPOSTOR: (168, 50, 15)}
_JPEG_QUALITY = 85

HEADINGS = {record.GENUINE: "genuine: same person", record.IMPOSTOR: "impostor: different people"}


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images' JPEG bytes, the label (`record.GENUINE` or `record.IMPOSTOR`), and what stands below each image."""

    a: bytes
    b: bytes
    label: int
    caption_a: str
    caption_b: str


def choose_pairs(tables: Mapping[str, pd.DataFrame], count: int, seed: int) -> pd.DataFrame:
    """Draws pairs for a sheet, as many of either label where there are, over all splits alike.

    Args:
      tables: pairs by split, with columns `a`, `b` and `label`.
      count: how many.
      seed: of the draw.

    Returns:
      Rows of the tables, genuine ones first.
    """
    rng = np.random.default_rng(seed)
    shares = {record.GENUINE: count - count // 2, record.IMPOSTOR: count // 2}
    return pd.concat(
        [_draw_rows(list(tables.values()), label, share, rng) for label, share in shares.items()]
    )


def pair_from_record(pair: Mapping[str, bytes | int]) -> Pair:
    """A pair as `record.decode_pair` gives it, with the identities as captions."""
    names = (pair[name].decode(errors="replace") for name in (record.IDENTITY_A, record.IDENTITY_B))
    return Pair(pair[record.IMAGE_A], pair[record.IMAGE_B], pair[record.LABEL], *names)


def draw_pairs(
    pairs: Sequence[Pair], columns: int = 4, side: int = 112, headings: Mapping[int, str] = HEADINGS
) -> Image.Image:
    """Draws genuine pairs in the left columns and impostor pairs in the right ones, or one kind over all of them.

    Args:
      pairs: what to draw.
      columns: pairs beside each other, even.
      side: of the square that each image is fitted into, in pixels.
      headings: what stands above the pairs of each label.

    Returns:
      An RGB image.
    """
    blocks = [
        [pair for pair in pairs if pair.label == label]
        for label in (record.GENUINE, record.IMPOSTOR)
    ]
    blocks = [members for members in blocks if members]
    across = columns // max(1, len(blocks))
    rows = max((-(-len(members) // across) for members in blocks), default=0)
    pitch_x, pitch_y = 2 * side + _GAP + _PAIR_GAP, side + _LINE + _PAIR_GAP // 2
    top = _MARGIN + _HEADING + _LINE // 2
    sheet = Image.new(
        "RGB",
        (2 * _MARGIN + columns * pitch_x - _PAIR_GAP, top + rows * pitch_y + _MARGIN // 2),
        _PAPER,
    )
    for block, members in enumerate(blocks):
        left, label = _MARGIN + block * across * pitch_x, members[0].label
        _write(
            sheet,
            headings[label],
            (left, _MARGIN),
            across * pitch_x - _PAIR_GAP,
            _HEADING,
            _COLOURS[label],
        )
        for index, pair in enumerate(members):
            _draw_pair(
                sheet,
                pair,
                (left + index % across * pitch_x, top + index // across * pitch_y),
                side,
            )
    return sheet


def to_jpeg(sheet: Image.Image) -> bytes:
    """The sheet's bytes for a page."""
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _draw_rows(
    tables: list[pd.DataFrame], label: int, count: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Rows with that label, each row of all tables as likely as any other."""
    places = [np.flatnonzero(table["label"].to_numpy() == label) for table in tables]
    ends = np.cumsum([0, *map(len, places)])
    drawn = np.sort(pair_sampling.distinct_integers(int(ends[-1]), min(count, int(ends[-1])), rng))
    owners = np.searchsorted(ends, drawn, side="right") - 1
    rows = [
        table.iloc[places[at][drawn[owners == at] - ends[at]]] for at, table in enumerate(tables)
    ]
    return pd.concat(rows)


def _draw_pair(sheet: Image.Image, pair: Pair, corner: tuple[int, int], side: int) -> None:
    for offset, data, caption in (
        (0, pair.a, pair.caption_a),
        (side + _GAP, pair.b, pair.caption_b),
    ):
        x, y = corner[0] + offset, corner[1]
        sheet.paste(_EMPTY, (x, y, x + side, y + side))
        picture = _fit(data, side)
        if picture:
            sheet.paste(
                picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2)
            )
        else:
            _write(sheet, "not decodable", (x + _GAP, y + side // 2), side - 2 * _GAP, _TEXT, _INK)
        _write(sheet, caption, (x, y + side + 1), side, _TEXT, _INK)


def _fit(data: bytes, side: int) -> Image.Image | None:
    """The image with its longer side of `side` pixels; None where it cannot be decoded."""
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG",))
        picture.draft("RGB", (2 * side, 2 * side))  # decodes a large one at a fraction of its size
        picture = picture.convert("RGB")
    except (OSError, SyntaxError):
        return None
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _write(
    sheet: Image.Image, text: str, corner: tuple[int, int], width: int, size: int, colour: tuple
) -> None:
    font = _font(size)
    ImageDraw.Draw(sheet).text(corner, _shorten(text, width, font), fill=colour, font=font)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans from Matplotlib's files, which has European, Arabic and more letters; Pillow's own has ASCII only."""
    folder = importlib.util.find_spec("matplotlib").submodule_search_locations[
        0
    ]  # not imported: that takes half a second
    return ImageFont.truetype(
        os.path.join(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf"), size
    )


def _shorten(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, its middle left out where it is wider than `width` pixels: names often differ at their ends only."""
    text = text.encode(errors="replace").decode()
    kept, shown = len(text), text
    while kept and font.getlength(shown) > width:
        kept -= 1
        shown = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
    return shown
