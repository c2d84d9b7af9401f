"""Contact sheets: many images in one picture for a person to look at."""

import dataclasses
import functools
import importlib.util
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from fv import record

HEADINGS = {record.GENUINE: "genuine: same person", record.IMPOSTOR: "impostor: different people"}

MAX_PAIRS = 1_900  # of one label, as `draw_pairs` draws by default: a JPEG has 65,500 rows at most
INK, GREEN, RED = (40, 42, 46), (24, 112, 62), (168, 50, 15)  # RGB
_COLOURS = {record.GENUINE: GREEN, record.IMPOSTOR: RED}
_PAPER, _EMPTY = (255, 255, 255), (226, 229, 233)
_GAP, _PAIR_GAP, _MARGIN = 3, 18, 14  # pixels: within a pair, between pairs, around the sheet
_TEXT, _HEADING, _LINE = 11, 15, 16  # pixels: heights of letters, and of a line of text
_JPEG_QUALITY = 85


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


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images, their label, and the text below each image.

    Attributes:
      a, b: JPEG bytes, or RGB pixels (height, width, 3) uint8.
      label: `record.GENUINE` or `record.IMPOSTOR`.
      caption_a, caption_b: one line of text each.
      ink: RGB colour of the captions.
    """

    a: bytes | np.ndarray
    b: bytes | np.ndarray
    label: int
    caption_a: str
    caption_b: str
    ink: tuple[int, int, int] = INK


def pair_from_record(pair: Mapping[str, Any]) -> Pair:
    """Returns a pair as `record.decode_pair` decodes it, with the identities as captions."""
    names = (pair[name].decode(errors="replace") for name in (record.IDENTITY_A, record.IDENTITY_B))
    return Pair(pair[record.IMAGE_A], pair[record.IMAGE_B], pair[record.LABEL], *names)


def choose_pairs(tables: Mapping[str, pd.DataFrame], count: int, seed: int) -> pd.DataFrame:
    """Chooses pairs for a sheet, half of them genuine, uniformly from all splits.

    Args:
      tables: pairs by split, with columns `a`, `b` and `label`.
      count: number of pairs; fewer are chosen if there are fewer of a label.
      seed: of the choice.

    Returns:
      Rows of the tables, genuine ones first.
    """
    pairs = pd.concat(tables.values())
    rng = np.random.default_rng(seed)
    chosen = []
    for label, share in ((record.GENUINE, count - count // 2), (record.IMPOSTOR, count // 2)):
        rows = np.flatnonzero(pairs["label"].to_numpy() == label)
        chosen.append(np.sort(rng.choice(rows, min(share, len(rows)), replace=False)))
    return pairs.iloc[np.concatenate(chosen)]


def draw_pairs(
    pairs: Sequence[Pair], columns: int = 4, side: int = 112, headings: Mapping[int, str] = HEADINGS
) -> Image.Image:
    """Draws genuine pairs on the left half and impostor pairs on the right half of a sheet.

    Pairs of one label alone take the whole width.

    Args:
      pairs: what to draw.
      columns: pairs in a row, even.
      side: of the square that each image is fitted into, in pixels.
      headings: text above the pairs of each label.

    Returns:
      An RGB image.
    """
    labels = [label for label in _COLOURS if any(pair.label == label for pair in pairs)]
    blocks = [[pair for pair in pairs if pair.label == label] for label in labels]
    across = columns // max(1, len(blocks))
    rows = max((-(-len(block) // across) for block in blocks), default=0)
    pitch_x, pitch_y = 2 * side + _GAP + _PAIR_GAP, side + _LINE + _PAIR_GAP // 2
    first_row = _MARGIN + _HEADING + _LINE // 2
    width = 2 * _MARGIN + columns * pitch_x - _PAIR_GAP
    sheet = Image.new("RGB", (width, first_row + rows * pitch_y + _MARGIN // 2), _PAPER)
    for number, (label, block) in enumerate(zip(labels, blocks, strict=True)):
        left, width = _MARGIN + number * across * pitch_x, across * pitch_x - _PAIR_GAP
        _write(sheet, headings[label], (left, _MARGIN), width, _HEADING, _COLOURS[label])
        for index, pair in enumerate(block):
            x, y = left + index % across * pitch_x, first_row + index // across * pitch_y
            _draw_image(sheet, pair.a, pair.caption_a, (x, y), side, pair.ink)
            _draw_image(sheet, pair.b, pair.caption_b, (x + side + _GAP, y), side, pair.ink)
    return sheet


def to_jpeg(sheet: Image.Image) -> bytes:
    """Encodes a sheet for a page."""
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _draw_image(
    sheet: Image.Image,
    image: bytes | np.ndarray,
    caption: str,
    corner: tuple[int, int],
    side: int,
    ink: tuple[int, int, int],
) -> None:
    x, y = corner
    sheet.paste(_EMPTY, (x, y, x + side, y + side))
    picture = _fit(image, side)
    if picture:
        sheet.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
    else:
        _write(sheet, "not decodable", (x + _GAP, y + side // 2), side - 2 * _GAP, _TEXT, INK)
    _write(sheet, caption, (x, y + side + 1), side, _TEXT, ink)


def _fit(image: bytes | np.ndarray, side: int) -> Image.Image | None:
    """Scales an image to a longer side of `side` pixels; None if it cannot be decoded."""
    picture: Image.Image
    if isinstance(image, np.ndarray):
        picture = Image.fromarray(image)
    else:
        try:
            picture = Image.open(io.BytesIO(image), formats=("JPEG",))
            # Decodes a large JPEG at a fraction of its size, which is faster.
            picture.draft("RGB", (2 * side, 2 * side))
            picture = picture.convert("RGB")
        except (OSError, SyntaxError):
            return None
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _write(
    sheet: Image.Image,
    text: str,
    corner: tuple[int, int],
    width: int,
    size: int,
    colour: tuple[int, int, int],
) -> None:
    font = _font(size)
    ImageDraw.Draw(sheet).text(corner, _shorten(text, width, font), fill=colour, font=font)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans from Matplotlib's files; Pillow's own font has only ASCII letters."""
    spec = importlib.util.find_spec("matplotlib")  # importing it would take half a second
    assert spec and spec.submodule_search_locations
    folder = spec.submodule_search_locations[0]
    path = os.path.join(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, size)


def _shorten(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """Replaces the middle of a text wider than `width` pixels: the ends of names often differ."""
    text = text.encode(errors="replace").decode()
    kept, shown = len(text), text
    while kept and font.getlength(shown) > width:
        kept -= 1
        shown = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
    return shown
